// SPDX-License-Identifier: Apache-2.0

// Command services is the world of the demo: two HTTP servers on loopback, a package registry that the
// policy allows and a drop box that it does not.
//
// It owns nothing but these two. It must not listen beyond loopback, nor outlive the demo.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// longest is how long the servers live if nobody ends them.
const longest = 5 * time.Minute

func main() {
	ports := flag.String("ports", "", "write the ports to this `file`, as shell variables")
	helper := flag.String("helper", "/bin/true", "serve this `program` as /helper")
	flag.Parse()
	if err := serve(*ports, *helper); err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

func serve(ports, helper string) error {
	registry, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	dropbox, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	closed, err := closedPort()
	if err != nil {
		return err
	}
	served := make(chan error, 2)
	go func() { served <- http.Serve(registry, registryHandler(helper)) }()
	go func() { served <- http.Serve(dropbox, http.HandlerFunc(swallow)) }()
	text := fmt.Sprintf("REGISTRY=%s\nDROPBOX=%s\nCLOSED=127.0.0.1:%d\n", registry.Addr(), dropbox.Addr(), closed)
	if err := os.WriteFile(ports+".new", []byte(text), 0o644); err != nil {
		return err
	}
	// Whoever waits for the file must not read half of it.
	if err := os.Rename(ports+".new", ports); err != nil {
		return err
	}
	select {
	case err := <-served:
		return err
	case <-time.After(longest):
		return errors.New("nobody ended the demo's servers")
	}
}

// closedPort is a port on which nobody listens, as far as that can be known.
func closedPort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("a TCP listener without a TCP address")
	}
	return address.Port, listener.Close()
}

func registryHandler(helper string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /greeting.txt", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello from the registry\n")
	})
	mux.HandleFunc("GET /helper", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, helper) })
	return mux
}

func swallow(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
