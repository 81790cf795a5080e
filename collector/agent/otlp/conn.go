// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/watchglass/watchglass/collector/agent"
)

// listener accepts connections up to the number that may be.
type listener struct {
	net.Listener
	receiver *Receiver
}

// Accept implements net.Listener. One connection too many is closed at once.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.receiver.admission.accept() {
			return &conn{Conn: c, receiver: l.receiver}, nil
		}
		l.receiver.stats.turnedAway.Add(1)
		_ = c.Close()
	}
}

var errTooMany = errors.New("as many connections of this sandbox as may be")

// conn is a connection whose other end is found out before its first byte is read, in its own goroutine: that may
// take a moment, of which nobody else loses any.
type conn struct {
	net.Conn
	receiver *Receiver

	find   sync.Once
	from   agent.Origin
	failed error

	closing sync.Once
	counted bool
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	c.find.Do(c.identify)
	if c.failed != nil {
		return 0, c.failed
	}
	return c.Conn.Read(b)
}

func (c *conn) identify() {
	ctx, cancel := context.WithTimeout(context.Background(), headerTimeout)
	defer cancel()
	c.from = c.receiver.settings.Peers.Of(ctx, c.Conn)
	if !c.receiver.admission.connect(c.from.Sandbox, time.Now()) {
		c.receiver.stats.turnedAway.Add(1)
		c.failed = errTooMany
		return
	}
	c.counted = true
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.find.Do(func() { c.failed = net.ErrClosed }) // nobody will read it any more
		if c.counted {
			c.receiver.admission.disconnect(c.from.Sandbox)
		}
		c.receiver.admission.hangUp()
	})
	return c.Conn.Close()
}

// origin is who is at the other end. It is known once something was read.
func (c *conn) origin() agent.Origin {
	c.find.Do(c.identify)
	return c.from
}

// RemoteAddr implements net.Conn. gRPC hands it on to its handlers, and nothing else of the connection.
func (c *conn) RemoteAddr() net.Addr { return address{c.Conn.RemoteAddr(), c} }

type address struct {
	net.Addr
	conn *conn
}

// connKey is the key of the connection in a request's context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// originOf is who made a request.
func originOf(ctx context.Context) agent.Origin {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c.origin()
	}
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(address); ok {
			return a.conn.origin()
		}
	}
	return agent.Origin{}
}

// serveBoth serves HTTP and gRPC on one listener: gRPC's connections begin with the words of HTTP/2.
func (r *Receiver) serveBoth(l net.Listener) error {
	plain, multiplexed := newChannel(l), newChannel(l)
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.http.Serve(plain) })
	serving.Go(func() { _ = r.grpc.Serve(multiplexed) })
	defer serving.Wait()
	defer plain.end()
	defer multiplexed.end()
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go func() {
			begun, isHTTP2, err := begin(c)
			switch {
			case err != nil:
				_ = c.Close()
			case isHTTP2:
				multiplexed.give(begun)
			default:
				plain.give(begun)
			}
		}()
	}
}

// begin reads the first bytes of a connection, and gives them back with the connection.
func begin(c net.Conn) (begun net.Conn, isHTTP2 bool, err error) {
	const preface = "PRI * HTTP/2.0"
	if err := c.SetReadDeadline(time.Now().Add(headerTimeout)); err != nil {
		return nil, false, err
	}
	first := make([]byte, len(preface))
	n := 0
	for n < len(first) && string(first[:n]) == preface[:n] {
		read, err := c.Read(first[n:])
		if n += read; err != nil {
			return nil, false, err
		}
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, false, err
	}
	own, ok := c.(*conn)
	if !ok {
		return nil, false, errors.New("not a connection of ours")
	}
	own.Conn = &replay{Conn: own.Conn, first: first[:n]}
	return own, string(first[:n]) == preface, nil
}

// replay is a connection whose first bytes were read already.
type replay struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (r *replay) Read(b []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(b, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.Conn.Read(b)
}

// channel is a listener that is given its connections.
type channel struct {
	net.Listener
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newChannel(l net.Listener) *channel {
	return &channel{Listener: l, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (c *channel) give(connection net.Conn) {
	select {
	case c.conns <- connection:
	case <-c.done:
		_ = connection.Close()
	}
}

// Accept implements net.Listener.
func (c *channel) Accept() (net.Conn, error) {
	select {
	case connection := <-c.conns:
		return connection, nil
	case <-c.done:
		return nil, net.ErrClosed
	}
}

func (c *channel) end() { c.once.Do(func() { close(c.done) }) }

// Close implements net.Listener.
func (c *channel) Close() error {
	c.end()
	return c.Listener.Close()
}

var _ http.Handler = (*Receiver)(nil)
