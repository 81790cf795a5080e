// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Operations of io_submit(2) (linux/aio_abi.h).
const (
	aioRead  = 0
	aioWrite = 1
)

// Where things are in the memory of a call of io_submit(2): the context, the list of one request, and that, a struct iocb,
// with its operation and its descriptor.
const (
	submitContext    = 0
	submitList       = 8
	submitRequest    = 16
	submitOperation  = submitRequest + 16
	submitDescriptor = submitRequest + 20
	submitBytes      = submitRequest + 64
)

// submitsRead and submitsWrite prepare an io_submit(2) that is refused when the kernel has begun with its request: a
// directory is neither read so nor written.
func submitsRead() (prepared, error)  { return submits(aioRead) }
func submitsWrite() (prepared, error) { return submits(aioWrite) }

func submits(operation uint16) (prepared, error) {
	fd, err := openRoot()
	if err != nil {
		return prepared{}, err
	}
	memory := make([]byte, submitBytes)
	at := address(memory)
	binary.NativeEndian.PutUint64(memory[submitList:], uint64(at+submitRequest))
	binary.NativeEndian.PutUint16(memory[submitOperation:], operation)
	binary.NativeEndian.PutUint32(memory[submitDescriptor:], uint32(fd))
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, at+submitContext, 0); errno != 0 {
		return prepared{}, errors.Join(fmt.Errorf("setting up what requests are submitted to: %w", errno), unix.Close(fd))
	}
	context := uintptr(binary.NativeEndian.Uint64(memory[submitContext:]))
	return prepared{
		arguments: [5]uintptr{context, 1, at + submitList},
		end: func() error {
			runtime.KeepAlive(memory)
			_, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, context, 0, 0)
			return errors.Join(wrapErrno("letting go of what requests are submitted to", errno), unix.Close(fd))
		},
	}, nil
}

// wrapErrno is an error of an error number, nil for 0.
func wrapErrno(doing string, errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, errno)
}
