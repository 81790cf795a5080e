// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestEnter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	if err := Enter(); err != nil {
		t.Fatal(err)
	}
	// A child has loopback and no other interface. /proc/self is the child's own, unlike ours, which is the main thread's.
	interfaces, err := exec.Command("cat", "/proc/self/net/dev").Output()
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(string(interfaces)), "\n"); len(lines) != 3 || !strings.Contains(lines[2], "lo:") {
		t.Errorf("want two lines of heading and lo, have:\n%s", interfaces)
	}
	// Loopback works from here, though the connection is accepted elsewhere.
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = conn.Close()
		}
		accepted <- err
	}()
	connect := exec.Command("bash", "-c", "exec 3<>/dev/tcp/"+strings.Replace(listener.Addr().String(), ":", "/", 1))
	if output, err := connect.CombinedOutput(); err != nil {
		t.Fatalf("connect to loopback: %v: %s", err, output)
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	// Nothing else can be reached, by address (here one for documentation).
	if _, err := net.Dial("udp4", "192.0.2.1:53"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("dial beyond loopback: %v, want %v", err, syscall.ENETUNREACH)
	}
}
