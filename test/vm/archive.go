// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// archive is Debian's packages of one architecture, as this machine's sources of packages have them.
type archive struct {
	arch, cache string
	// apt is options of apt-get and apt-cache: for another architecture than this machine's they keep what apt knows of it
	// in the cache, so that nothing of this machine's own changes.
	apt []string
}

// openArchive makes packages of an architecture known, which takes a moment the first time.
func openArchive(ctx context.Context, cache, arch string) (*archive, error) {
	cache, err := filepath.Abs(cache)
	if err != nil {
		return nil, err
	}
	a := &archive{arch: arch, cache: cache}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	own, err := output(ctx, "", "dpkg", "--print-architecture")
	if err != nil || strings.TrimSpace(own) == arch {
		return a, err
	}
	state := filepath.Join(cache, "apt-"+arch)
	for _, dir := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(state, dir), 0o755); err != nil {
			return nil, err
		}
	}
	for _, option := range []string{
		"APT::Architecture=" + arch, "APT::Architectures=" + arch, "APT::Sandbox::User=root",
		"Dir::State::lists=" + filepath.Join(state, "lists"), "Dir::Cache=" + filepath.Join(state, "cache"), "Dir::State::status=/dev/null",
	} {
		a.apt = append(a.apt, "-o", option)
	}
	// Another source of this machine's may have nothing for the architecture: what is missing shows when it is looked for.
	if _, err := a.run(ctx, "", "apt-get", "update"); err != nil {
		return nil, fmt.Errorf("learning what there is for %s: %w", arch, err)
	}
	return a, nil
}

func (a *archive) run(ctx context.Context, dir, name string, args ...string) (string, error) {
	return output(ctx, dir, name, append(slices.Clone(a.apt), args...)...)
}

// kernel is what a machine boots.
type kernel struct {
	// name is the package's, image its kernel's file, modules the directory of what modules of it the machines load.
	name, image, modules string
}

// kernel returns the newest cloud kernel of a series, downloading it once.
func (a *archive) kernel(ctx context.Context, series string) (*kernel, error) {
	out, err := a.run(ctx, "", "apt-cache", "search", "--names-only",
		`^linux-image-`+regexp.QuoteMeta(series)+`\.[0-9.+a-z-]*-cloud-`+a.arch+`(-unsigned)?$`)
	if err != nil {
		return nil, fmt.Errorf("searching for the package: %w", err)
	}
	var names []string
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, errors.New("no such package in this machine's Debian: run apt-get update, or leave the series out")
	}
	slices.SortFunc(names, compareVersions)
	name := names[len(names)-1]
	root, err := a.unpacked(ctx, name)
	if err != nil {
		return nil, err
	}
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return nil, fmt.Errorf("%s holds no kernel image", name)
	}
	return &kernel{name: name, image: images[0], modules: filepath.Join(root, modules)}, nil
}

// busybox returns a static one for the machines.
func (a *archive) busybox(ctx context.Context) (string, error) {
	if len(a.apt) == 0 {
		busybox, err := exec.LookPath("busybox")
		if err != nil {
			return "", fmt.Errorf("looking for busybox (Debian: busybox-static): %w", err)
		}
		return busybox, nil
	}
	root, err := a.unpacked(ctx, "busybox-static")
	return filepath.Join(root, "bin", "busybox"), err
}

// unpacked returns the directory with what of a package is needed, downloading it once.
func (a *archive) unpacked(ctx context.Context, name string) (string, error) {
	// What was unpacked with other modules is none of what is needed.
	dir := filepath.Join(a.cache, a.arch, strings.Join(kernelModules(), "+"), name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(a.cache, "download-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if _, err := a.run(ctx, tmp, "apt-get", "download", name); err != nil {
		return "", fmt.Errorf("downloading %s: %w", name, err)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("downloading %s: %d packages came", name, len(debs))
	}
	root := filepath.Join(tmp, "root")
	if _, err := output(ctx, "", "dpkg-deb", "-x", debs[0], root); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", name, err)
	}
	if err := keepModules(ctx, root); err != nil {
		return "", fmt.Errorf("keeping modules of %s: %w", name, err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(root, dir); err != nil {
		return "", fmt.Errorf("keeping %s: %w", name, err)
	}
	return dir, nil
}

// modules is where in an unpacked package, and in a machine, the modules are that machines load.
const modules = "modules"

// kernelModules is those of a kernel's modules that tests need, where it has them as modules.
func kernelModules() []string { return []string{"loop", "overlay"} }

// keepModules leaves of a kernel's modules, which are many, those that tests need.
func keepModules(ctx context.Context, root string) error {
	kept := filepath.Join(root, modules)
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return err
	}
	all := filepath.Join(root, "lib", "modules")
	if _, err := os.Stat(all); err != nil {
		return nil //nolint:nilerr // a package of another kind has none
	}
	err := filepath.WalkDir(all, func(path string, entry fs.DirEntry, err error) error {
		name, compressed := strings.CutSuffix(filepath.Base(path), ".xz")
		name, module := strings.CutSuffix(name, ".ko")
		if err != nil || entry.IsDir() || !module || !slices.Contains(kernelModules(), name) {
			return err
		}
		if err := os.Rename(path, filepath.Join(kept, filepath.Base(path))); err != nil || !compressed {
			return err
		}
		_, err = output(ctx, kept, "busybox", "unxz", filepath.Base(path))
		return err
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(all)
}

// compareVersions orders package names so that 6.1.0-9 comes before 6.1.0-10: runs of digits compare as numbers.
func compareVersions(a, b string) int {
	runs := regexp.MustCompile(`[0-9]+|[^0-9]+`)
	left, right := runs.FindAllString(a, -1), runs.FindAllString(b, -1)
	for i := range min(len(left), len(right)) {
		l, r := left[i], right[i]
		digits := l[0] >= '0' && l[0] <= '9' && r[0] >= '0' && r[0] <= '9'
		if digits && len(l) != len(r) {
			return len(l) - len(r)
		}
		if l != r {
			return strings.Compare(l, r)
		}
	}
	return len(left) - len(right)
}
