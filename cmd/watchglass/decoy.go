// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// decoys is files of fake credentials that were planted for a session, to see who reads them.
type decoys struct {
	// paths is where they are; canaries are these and the tokens in them.
	paths, canaries []string
}

// plantDecoys writes a file of fake credentials at each path. None may be there already: it would be somebody's.
func plantDecoys(paths []string) (*decoys, error) {
	d := &decoys{}
	for _, path := range paths {
		absolute, err := filepath.Abs(path)
		if err == nil {
			// The kernel tells the real path: of the directory, since the file is not there yet.
			var dir string
			if dir, err = filepath.EvalSymlinks(filepath.Dir(absolute)); err == nil {
				err = d.plant(filepath.Join(dir, filepath.Base(absolute)))
			}
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("plant a canary: %w", err), d.remove())
		}
	}
	return d, nil
}

func (d *decoys) plant(path string) error {
	// The form of an access key that nobody has: all of a key's letters, and a word that no key has.
	id := "AKIACANARY" + strings.ToUpper(rand.Text())[:10]
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	d.paths, d.canaries = append(d.paths, path), append(d.canaries, path, id)
	// Whoever owns the directory could read a file of credentials in it.
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		err = file.Chown(int(owner.Uid), int(owner.Gid))
	}
	_, writing := fmt.Fprintf(file, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", id, rand.Text()+rand.Text())
	return errors.Join(err, writing, file.Close())
}

// remove takes the files away again. What the session removed itself is gone already.
func (d *decoys) remove() error {
	var errs []error
	for _, path := range d.paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
