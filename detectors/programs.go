// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"strings"

	"github.com/watchglass/watchglass/event"
)

// This file is what the detectors know of programs by the kernel's path of their executable. A path
// is as the process's root sees it: a sandbox that can mount can also bring its own /usr, and
// docs/detectors says so.

// installed says that only who administers the sandbox puts executables there.
func installed(executable string) bool {
	for _, dir := range [...]string{"/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/nix/store", "/snap"} {
		if below(executable, dir) {
			return true
		}
	}
	return false
}

// temporary says that everybody may write there.
func temporary(path string) bool {
	for _, dir := range [...]string{"/tmp", "/var/tmp", "/dev/shm"} {
		if below(path, dir) {
			return true
		}
	}
	return false
}

func isShell(name string) bool {
	switch name {
	case "sh", "bash", "dash", "zsh", "fish", "ksh", "busybox", "ash":
		return true
	}
	return false
}

// isInterpreter says that the program is a language's and the first argument names what really runs.
func isInterpreter(name string) bool {
	switch name {
	case "node", "nodejs", "bun", "deno", "ruby", "php", "perl":
		return true
	}
	return strings.HasPrefix(name, "python")
}

// script is the first argument of an interpreter that is no option: the program it was given.
func script(p *event.Process) string {
	for _, arg := range p.Args[min(1, len(p.Args)):] {
		if !strings.HasPrefix(arg, "-") {
			return arg
		}
		if arg == "-e" || arg == "-c" || arg == "-p" || arg == "--eval" || arg == "--print" || arg == "-m" {
			return ""
		}
	}
	return ""
}

// toolName strips what distributions put around a tool's name: "x86_64-linux-gnu-ld.bfd" is "ld",
// "clang-19" is "clang", "python3.12" stays.
func toolName(executable string) string {
	name := baseName(executable)
	if i := strings.LastIndexByte(name, '-'); i > 0 && strings.Trim(name[i+1:], "0123456789.") == "" {
		name = name[:i]
	}
	if i := strings.LastIndexByte(name, '-'); i > 0 && strings.Count(name, "-") >= 2 {
		name = name[i+1:]
	}
	if rest, ok := strings.CutPrefix(name, "ld."); ok && (rest == "bfd" || rest == "gold" || rest == "lld" || rest == "mold") {
		name = "ld"
	}
	return name
}

// isCompiler says that writing executables is what the tool does.
func isCompiler(executable string) bool {
	switch toolName(executable) {
	case "ld", "lld", "ld64", "mold", "gold", "wild", "link", "collect2", "lto1", "as",
		"cc1", "cc1plus", "gcc", "clang", "tcc", "go", "compile", "asm", "rustc", "cargo", "rust-lld",
		"zig", "ghc", "ocamlopt", "swiftc", "swift-frontend", "dmd", "ldc2", "gdc", "nim", "fpc", "crystal":
		return true
	}
	return false
}

// stripsInPlace says that the process is the installed strip(1) and takes symbols out of the files it
// is given. With an output file it would copy one over another, so any option that could name one
// (-o, --output-file and what they may be shortened or joined to) makes it not that, and so do
// arguments from a file or more of them than are told of.
func stripsInPlace(p *event.Process) bool {
	const most = 64 << 10
	if toolName(p.Executable) != "strip" || !installed(p.Executable) {
		return false
	}
	total := 0
	for i, arg := range p.Args {
		total += len(arg) + 1
		if i > 0 && strings.HasPrefix(arg, "@") || strings.HasPrefix(arg, "-") && strings.Contains(arg, "o") {
			return false
		}
	}
	return total <= most
}

// isInstaller says that unpacking other people's executables is what the tool does.
func isInstaller(executable string) bool {
	name := toolName(executable)
	switch name {
	case "node", "bun", "deno", "uv", "pip", "pip3", "ruby", "dpkg", "rpm", "apk", "pacman", "cargo", "rustup":
		return true
	}
	return strings.HasPrefix(name, "python3")
}

// dependencies says that the path lies where an installer puts a project's dependencies.
func dependencies(path string) bool {
	for _, dir := range [...]string{"/node_modules/", "/site-packages/", "/dist-packages/", "/.venv/", "/venv/"} {
		if strings.Contains(path, dir) {
			return true
		}
	}
	return false
}
