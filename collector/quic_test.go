// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// quicCryptoFrame is the frame with the ClientHello of RFC 9001, appendix A.2: for example.com, offering "alpn".
const quicCryptoFrame = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c0000041301130201000" +
	"0c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d00170018001000070005" +
	"04616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b" +
	"0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07" +
	"048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff"

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealed makes an Initial packet of frames, padded to a size, as a client does.
func sealed(t testing.TB, version uint32, id, frames []byte, number uint32, size int) []byte {
	t.Helper()
	keys, err := quicKeys(version, id)
	if err != nil {
		t.Fatal(err)
	}
	form := byte(0xc3)
	if version == quicVersion2 {
		form = 0xd3
	}
	length := 4 + size + quicTag
	head := []byte{form, byte(version >> 24), byte(version >> 16), byte(version >> 8), byte(version), byte(len(id))}
	head = append(head, id...)
	head = append(head, 0, 0, byte(length>>8)|0x40, byte(length))
	at := len(head)
	head = append(head, byte(number>>24), byte(number>>16), byte(number>>8), byte(number))
	frames = append(slices.Clone(frames), make([]byte, size-len(frames))...)
	packet := keys.aead.Seal(slices.Clone(head), keys.nonce(uint64(number)), frames, head)
	mask := keys.mask(packet[at+4 : at+4+quicSample])
	packet[0] ^= mask[0] & 0x0f
	for i := range 4 {
		packet[at+i] ^= mask[1+i]
	}
	return packet
}

// TestQUICKeys holds the keys to those of RFC 9001, appendix A.1, and RFC 9369, appendix A.1, and a whole packet to the
// beginning of that of RFC 9001, appendix A.2.
func TestQUICKeys(t *testing.T) {
	id := unhex(t, "8394c8f03e515708")
	for version, iv := range map[uint32]string{
		quicVersion1: "fa044b2f42a3fd3b46fb255c", quicVersion2: "91f73e2351d8fa91660e909f",
	} {
		keys, err := quicKeys(version, id)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(keys.iv); got != iv {
			t.Errorf("version %#x: iv %s, want %s", version, got, iv)
		}
	}
	packet := sealed(t, quicVersion1, id, unhex(t, quicCryptoFrame), 2, 1162)
	want := "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b"
	if got := hex.EncodeToString(packet[:len(want)/2]); got != want || len(packet) != 1200 {
		t.Errorf("the packet of %d bytes begins with\n%s, want 1200 and\n%s", len(packet), got, want)
	}
}

// cryptoFrame is a CRYPTO frame with a part of a hello.
func cryptoFrame(hello []byte, from, to int) []byte {
	part := hello[from:to]
	frame := []byte{6, 0x40 | byte(from>>8), byte(from), 0x40 | byte(len(part)>>8), byte(len(part))}
	return append(frame, part...)
}

func TestQUICHello(t *testing.T) {
	id := unhex(t, "8394c8f03e515708")
	frame := unhex(t, quicCryptoFrame)
	hello := frame[4:]
	peer := netip.MustParseAddrPort("192.0.2.1:443")
	damaged := sealed(t, quicVersion1, id, frame, 0, 1162)
	damaged[600] ^= 1
	ack := []byte{2, 5, 0, 1, 0, 0, 0, 3, 5, 0, 0, 0, 1, 1, 1, 1}
	for _, c := range []struct {
		name      string
		datagrams [][]byte
		want      bool
	}{
		{"version 1", [][]byte{sealed(t, quicVersion1, id, frame, 0, 1162)}, true},
		{"version 2", [][]byte{sealed(t, quicVersion2, id, frame, 0, 1162)}, true},
		{"acknowledgements before", [][]byte{sealed(t, quicVersion1, id, slices.Concat(ack, frame), 3, 1162)}, true},
		{"parts out of their order, in one packet", [][]byte{
			sealed(t, quicVersion1, id, slices.Concat(cryptoFrame(hello, 100, len(hello)), []byte{1, 0}, cryptoFrame(hello, 0, 40), cryptoFrame(hello, 30, 110)), 0, 1162),
		}, true},
		{"two datagrams, the second first", [][]byte{
			sealed(t, quicVersion1, id, cryptoFrame(hello, 120, len(hello)), 1, 1162), sealed(t, quicVersion1, id, cryptoFrame(hello, 0, 120), 0, 1162),
		}, true},
		{"two packets in a datagram", [][]byte{slices.Concat(
			sealed(t, quicVersion1, id, cryptoFrame(hello, 0, 120), 0, 500), sealed(t, quicVersion1, id, cryptoFrame(hello, 120, len(hello)), 1, 600))}, true},
		{"after a retry, with another id", [][]byte{
			sealed(t, quicVersion1, id, []byte{1}, 0, 1162), sealed(t, quicVersion1, []byte("server's"), frame, 1, 1162),
		}, true},
		{"the server's id, with the first keys", [][]byte{
			sealed(t, quicVersion1, id, cryptoFrame(hello, 0, 120), 0, 1162),
		}, false},
		{"damaged", [][]byte{damaged}, false},
		{"half", [][]byte{sealed(t, quicVersion1, id, frame, 0, 1162)[:700]}, false},
		{"no hello", [][]byte{sealed(t, quicVersion1, id, cryptoFrame([]byte{2, 0, 0, 4, 1, 2, 3, 4}, 0, 8), 0, 1162)}, false},
		{"nothing", [][]byte{nil, {0xc0}, bytes.Repeat([]byte{0xff}, 1200)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h hellos
			var found []*event.NetworkRequest
			for i, d := range c.datagrams {
				for range 2 { // what comes again changes nothing
					if request := h.add(&bpf.Datagram{Ends: bpf.Ends{Peer: peer, Sent: true}, Socket: 7, Number: uint32(i), Bytes: d}); request != nil {
						found = append(found, request)
					}
				}
			}
			if !c.want {
				if len(found) != 0 {
					t.Errorf("found %+v", *found[0])
				}
				return
			}
			if len(found) != 1 || found[0].Protocol != "quic" || found[0].Name != "example.com" || found[0].Source != "sni" ||
				!slices.Equal(found[0].ALPN, []string{"alpn"}) {
				t.Errorf("found %d requests: %+v", len(found), found)
			}
		})
	}
}

func TestHellosAreBounded(t *testing.T) {
	var h hellos
	for i := range uint64(3 * maxHellos) {
		h.add(&bpf.Datagram{Socket: i, Bytes: []byte(strings.Repeat("x", 1200))})
	}
	if len(h.open) != maxHellos || len(h.order) != maxHellos || h.evicted != 2*maxHellos {
		t.Errorf("%d hellos in order %d, %d evicted", len(h.open), len(h.order), h.evicted)
	}
	var table streams
	for i := range uint64(maxStreams + 10) {
		table.add(&bpf.Stream{ID: i, Ends: bpf.Ends{Sent: true}, Bytes: []byte("x")})
		if i < 4 {
			table.done(&bpf.Stream{ID: i, Ends: bpf.Ends{Sent: true}}) // it has said what it asks for
		}
	}
	if len(table.open) != maxStreams || table.evicted != 6 {
		t.Errorf("%d streams, %d evicted, want %d and 6", len(table.open), table.evicted, maxStreams)
	}
	big := hello{}
	for i := range 10 * maxHelloPieces {
		big.put(piece{1 + 2*i, make([]byte, 1)})
	}
	if len(big.pieces) != maxHelloPieces {
		t.Errorf("%d pieces wait, want %d", len(big.pieces), maxHelloPieces)
	}
}

func FuzzQUIC(f *testing.F) {
	id := unhex(f, "8394c8f03e515708")
	frame := unhex(f, quicCryptoFrame)
	f.Add(sealed(f, quicVersion1, id, frame, 2, 1162), frame)
	f.Add(sealed(f, quicVersion2, id, frame, 2, 1162), cryptoFrame(frame[4:], 10, 90))
	f.Add([]byte{0xc0}, []byte{2, 5, 0, 1, 0, 0, 0, 3, 5, 0, 0, 0, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, datagram, frames []byte) {
		var h hellos
		h.add(&bpf.Datagram{Bytes: datagram})
		// Behind a right encryption, too.
		if len(frames) <= 1162 {
			h.add(&bpf.Datagram{Socket: 1, Bytes: sealed(t, quicVersion1, id, frames, 2, 1162)})
		}
		for _, known := range h.open {
			if len(known.bytes) > maxHello || len(known.pieces) > maxHelloPieces {
				t.Fatalf("%d bytes in %d pieces are kept", len(known.bytes), len(known.pieces))
			}
		}
	})
}
