// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// storm is the process of a storm: what, how often, and an empty directory.
func storm(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: bench storm exec|open|getppid|requests|redis COUNT DIRECTORY")
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("reading the count: %w", err)
	}
	switch args[0] {
	case "exec":
		return execStorm(count)
	case "open":
		return openStorm(count, args[2])
	case "getppid":
		for range count {
			syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0) //nolint:errcheck // it cannot fail
		}
		return nil
	case "requests":
		return requestStorm(count)
	case "redis":
		return redisStorm(count, args[2])
	default:
		return fmt.Errorf("no storm %q", args[0])
	}
}

func execStorm(count int) error {
	for range count {
		if err := exec.Command("/bin/true").Run(); err != nil {
			return fmt.Errorf("running /bin/true: %w", err)
		}
	}
	return nil
}

func openStorm(count int, dir string) error {
	var files [100]string
	for i := range files {
		files[i] = filepath.Join(dir, "file"+strconv.Itoa(i))
		if err := os.WriteFile(files[i], nil, 0o600); err != nil {
			return fmt.Errorf("making files: %w", err)
		}
	}
	for i := range count {
		fd, err := syscall.Open(files[i%len(files)], syscall.O_RDONLY, 0)
		if err != nil {
			return fmt.Errorf("opening a file: %w", err)
		}
		if err := syscall.Close(fd); err != nil {
			return fmt.Errorf("closing a file: %w", err)
		}
	}
	return nil
}

// requestBytes is how long a request is, and its answer.
const requestBytes = 64

// requestStorm asks a server of its own over the loopback, one request after the other on one connection.
func requestStorm(count int) error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer listener.Close() //nolint:errcheck // over
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}, make([]byte, requestBytes)) // until the other end is closed
	}()
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", listener.Addr().String())
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close() //nolint:errcheck // over
	var request [requestBytes]byte
	for range count {
		if _, err := conn.Write(request[:]); err != nil {
			return fmt.Errorf("asking: %w", err)
		}
		if _, err := io.ReadFull(conn, request[:]); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
	}
	return nil
}

// hasRedis says whether redis-benchmark and its server are installed.
func hasRedis() bool {
	for _, name := range []string{"redis-server", "redis-benchmark"} {
		if _, err := exec.LookPath(name); err != nil {
			return false
		}
	}
	return true
}

// redisStorm runs redis-benchmark on a server of its own.
func redisStorm(count int, dir string) error {
	address, err := freeAddress(context.Background())
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("reading a port: %w", err)
	}
	server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir) //nolint:gosec // our own port
	if err := server.Start(); err != nil {
		return fmt.Errorf("starting redis: %w", err)
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	}()
	if err := awaitRedis(address); err != nil {
		return err
	}
	out, err := exec.Command("redis-benchmark", "-h", "127.0.0.1", "-p", port, "-t", "get", "-n", strconv.Itoa(count), "-q").CombinedOutput() //nolint:gosec // our own port
	if err != nil {
		return fmt.Errorf("running redis-benchmark: %w\n%s", err, out)
	}
	return nil
}

// awaitRedis waits until the server answers.
func awaitRedis(address string) error {
	const patience, pause = 30 * time.Second, 5 * time.Millisecond
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(pause) {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", address)
		if err != nil {
			continue
		}
		_, err = io.WriteString(conn, "PING\r\n")
		if err == nil {
			_, err = bufio.NewReader(conn).ReadString('\n')
		}
		_ = conn.Close()
		if err == nil {
			return nil
		}
	}
	return errors.New("redis does not answer")
}
