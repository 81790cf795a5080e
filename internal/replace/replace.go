// SPDX-License-Identifier: Apache-2.0

// Package replace puts a new file in the place of an old one so that nobody ever reads half of it, whatever ends the
// process or fills the disk meanwhile.
//
// It owns the file beside the place, until that has its name. It must not know what is in it, nor follow a link at the
// place: the link is what is replaced.
package replace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Unfinished is a pattern, of filepath.Match, of the names of files that a kill can leave beside the places of others.
const Unfinished = ".*.new-*"

// File makes the file at path hold this text, with this mode whatever the umask, or leaves what is there as it was. It
// returns when the disk has the text.
func File(path string, text []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("replace %s: %w", path, err)
	}
	// The text is on the disk. Where the name is not yet, or the file system cannot say, a crash of the machine brings
	// back the old file, which is whole too.
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}
