// SPDX-License-Identifier: Apache-2.0

package event

import (
	"strconv"
	"strings"
	"syscall"
)

// SignalName is the kernel's name of a signal number ("SIGKILL", "SIGRTMIN+1"), or "" for 0.
func SignalName(n int) string {
	const sigRTMin = 34
	switch {
	case n == 0:
		return ""
	case n >= sigRTMin:
		if n == sigRTMin {
			return "SIGRTMIN"
		}
		return "SIGRTMIN+" + strconv.Itoa(n-sigRTMin)
	}
	names := [...]string{
		1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS",
		8: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE",
		14: "SIGALRM", 15: "SIGTERM", 16: "SIGSTKFLT", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP",
		20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG", 24: "SIGXCPU", 25: "SIGXFSZ",
		26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
	}
	if n > 0 && n < len(names) && names[n] != "" {
		return names[n]
	}
	return "SIG" + strconv.Itoa(n)
}

// Errno is a positive Linux error number.
type Errno int

// Name is the kernel's name of the error ("ENOENT"), or "" for 0.
func (e Errno) Name() string {
	if e == 0 {
		return ""
	}
	if name, ok := errnoNames[syscall.Errno(e)]; ok {
		return name
	}
	return "errno_" + strconv.Itoa(int(e))
}

// Text is what perror would print for it.
func (e Errno) Text() string {
	return strings.ToLower(syscall.Errno(e).Error())
}

// errnoNames is the errors that opens, connects and execs return; others show as numbers.
var errnoNames = map[syscall.Errno]string{ //nolint:gochecknoglobals // a constant table; Go has no constant maps
	syscall.EPERM: "EPERM", syscall.ENOENT: "ENOENT", syscall.ESRCH: "ESRCH", syscall.EINTR: "EINTR", syscall.EIO: "EIO",
	syscall.ENXIO: "ENXIO", syscall.E2BIG: "E2BIG", syscall.ENOEXEC: "ENOEXEC", syscall.EBADF: "EBADF",
	syscall.EAGAIN: "EAGAIN", syscall.ENOMEM: "ENOMEM", syscall.EACCES: "EACCES", syscall.EFAULT: "EFAULT",
	syscall.EBUSY: "EBUSY", syscall.EEXIST: "EEXIST", syscall.EXDEV: "EXDEV", syscall.ENODEV: "ENODEV",
	syscall.ENOTDIR: "ENOTDIR", syscall.EISDIR: "EISDIR", syscall.EINVAL: "EINVAL", syscall.ENFILE: "ENFILE",
	syscall.EMFILE: "EMFILE", syscall.ETXTBSY: "ETXTBSY", syscall.EFBIG: "EFBIG", syscall.ENOSPC: "ENOSPC",
	syscall.EROFS: "EROFS", syscall.EMLINK: "EMLINK", syscall.EPIPE: "EPIPE", syscall.ENAMETOOLONG: "ENAMETOOLONG",
	syscall.ELOOP: "ELOOP", syscall.EOVERFLOW: "EOVERFLOW", syscall.EOPNOTSUPP: "EOPNOTSUPP",
	syscall.EAFNOSUPPORT: "EAFNOSUPPORT", syscall.EADDRINUSE: "EADDRINUSE", syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL",
	syscall.ENETDOWN: "ENETDOWN", syscall.ENETUNREACH: "ENETUNREACH", syscall.ENETRESET: "ENETRESET",
	syscall.ECONNABORTED: "ECONNABORTED", syscall.ECONNRESET: "ECONNRESET", syscall.EISCONN: "EISCONN",
	syscall.ENOTCONN: "ENOTCONN", syscall.ETIMEDOUT: "ETIMEDOUT", syscall.ECONNREFUSED: "ECONNREFUSED",
	syscall.EHOSTDOWN: "EHOSTDOWN", syscall.EHOSTUNREACH: "EHOSTUNREACH", syscall.EALREADY: "EALREADY",
	syscall.EINPROGRESS: "EINPROGRESS", syscall.ESTALE: "ESTALE", syscall.EDQUOT: "EDQUOT",
	syscall.EPROTONOSUPPORT: "EPROTONOSUPPORT", syscall.ENOTSOCK: "ENOTSOCK", syscall.EPROTOTYPE: "EPROTOTYPE",
	// The kernel's own, not of any architecture: a call that a signal interrupted is made again, and told again, or ends with
	// EINTR for its program.
	512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK",
}
