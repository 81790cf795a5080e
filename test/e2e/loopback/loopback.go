// SPDX-License-Identifier: Apache-2.0

// Package loopback gives a test a network in which only loopback exists, so that whatever a real agent
// tries to reach besides its scripted model fails at once. It owns the making of that network namespace
// and nothing else; it must not start processes or servers.
package loopback

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"syscall"
)

// loIndex is the interface index of lo: the kernel gives it to the first interface of every namespace.
const loIndex = 1

// Enter moves the calling goroutine into a new network namespace whose only interface, lo, is up.
//
// A network namespace belongs to a thread. The goroutine is locked to its thread and never unlocked, so the
// runtime ends the thread with the goroutine and no other code is ever scheduled into the namespace.
// From here on, sockets this goroutine makes and processes it starts are in the namespace, because
// both net.Listen and os/exec act on the calling thread. A listening socket stays in the namespace in
// which it was made, so connections may be accepted by other goroutines. Goroutines started from here
// run elsewhere: they must neither listen nor start processes. Needs CAP_SYS_ADMIN.
func Enter() error {
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	if err := raise(loIndex); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}

// raise sets an interface up through one rtnetlink request. The alternative, an ioctl, needs an unsafe pointer.
func raise(index int32) error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer func() { _ = syscall.Close(fd) }()

	const length = syscall.SizeofNlMsghdr + syscall.SizeofIfInfomsg
	request := make([]byte, 0, length)
	order := binary.NativeEndian
	request = order.AppendUint32(request, length)
	request = order.AppendUint16(request, syscall.RTM_NEWLINK)
	request = order.AppendUint16(request, syscall.NLM_F_REQUEST|syscall.NLM_F_ACK)
	request = order.AppendUint32(request, 1)                      // sequence number
	request = order.AppendUint32(request, 0)                      // to the kernel
	request = append(request, syscall.AF_UNSPEC, 0)               // family, padding
	request = order.AppendUint16(request, 0)                      // device type
	request = order.AppendUint32(request, uint32(index))          // interface
	request = order.AppendUint32(request, uint32(syscall.IFF_UP)) // flags
	request = order.AppendUint32(request, uint32(syscall.IFF_UP)) // which of the flags to change
	if err := syscall.Sendto(fd, request, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask for the interface to be set up: %w", err)
	}
	answer := make([]byte, syscall.Getpagesize())
	n, _, err := syscall.Recvfrom(fd, answer, 0)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(answer[:n])
	if err != nil {
		return fmt.Errorf("parse the answer: %w", err)
	}
	for _, message := range messages {
		if message.Header.Type != syscall.NLMSG_ERROR || len(message.Data) < 4 {
			continue
		}
		// The answer is an error message also for success, which is error 0.
		if code := int32(order.Uint32(message.Data)); code != 0 {
			return fmt.Errorf("set the interface up: %w", syscall.Errno(-code))
		}
		return nil
	}
	return fmt.Errorf("no acknowledgement in %d messages", len(messages))
}
