// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// The first packets of a QUIC connection are encrypted with keys that anybody can derive from what stands before them
// (RFC 9001, section 5; RFC 9369 for version 2): that is against meddling, not for secrecy. In them is the ClientHello.
const (
	quicVersion1, quicVersion2 = 1, 0x6b3343cf
	// quicTag is the size of the authentication tag, quicSample that of what header protection is made from.
	quicTag, quicSample = 16, 16
	// quicMaxID is the longest connection id of these versions.
	quicMaxID = 20
	// maxHellos bounds the connections of one sandbox whose hellos are put together at a time; maxHello the bytes of
	// each, and maxHelloPieces its pieces.
	maxHellos, maxHello, maxHelloPieces = 64, 16 << 10, 64
	// quicAttempts bounds the packets of one datagram that are looked at.
	quicAttempts = 4
)

// helloKey is a socket and its peer.
type helloKey struct {
	socket uint64
	peer   netip.AddrPort
}

// hello is what is known of a ClientHello: bytes from the first on, and pieces that came before their turn.
type hello struct {
	id     []byte // the first connection id that was used: keys come from it
	bytes  []byte
	pieces []piece
	closed bool
}

// piece is a part of a ClientHello.
type piece struct {
	offset int
	bytes  []byte
}

// hellos is the QUIC connections of one sandbox that begin, oldest first.
type hellos struct {
	open  map[helloKey]*hello
	order []helloKey
	// evicted is how many made room before they had said what they ask for.
	evicted uint64
}

// add takes a datagram and returns what it asks for, once that is known; nil before, and after.
func (h *hellos) add(d *bpf.Datagram) *event.NetworkRequest {
	key := helloKey{d.Socket, d.Peer}
	known := h.open[key]
	if known == nil {
		if h.open == nil {
			h.open = map[helloKey]*hello{}
		}
		if len(h.order) >= maxHellos {
			if !h.open[h.order[0]].closed {
				h.evicted++
			}
			delete(h.open, h.order[0])
			h.order = append(h.order[:0], h.order[1:]...)
		}
		known = &hello{}
		h.open[key] = known
		h.order = append(h.order, key)
	}
	if known.closed {
		return nil
	}
	known.take(d.Bytes)
	request, decided := known.read()
	if decided {
		*known = hello{closed: true}
	}
	return request
}

// take takes what a datagram holds of the hello.
func (h *hello) take(datagram []byte) {
	for range quicAttempts {
		packet, rest, ok := quicPacket(datagram)
		if !ok {
			return
		}
		datagram = rest
		if h.id == nil {
			h.id = slices.Clone(packet.id)
		}
		// After a Retry the keys come from the id that the server chose; else they stay those of the first.
		frames, opened := packet.open(h.id)
		if !opened {
			frames, opened = packet.open(packet.id)
		}
		if opened {
			h.frames(frames)
		}
	}
}

// initial is an encrypted first packet: data from its first byte to its last, number is where its packet number is.
type initial struct {
	version uint32
	id      []byte
	data    []byte
	number  int
}

// quicPacket takes the first packet off a datagram, if it is an Initial one. Everything in it is hostile.
func quicPacket(datagram []byte) (packet initial, rest []byte, ok bool) {
	r := quicReader{datagram}
	form, ok1 := r.byte()
	version, ok2 := r.uint32()
	id, ok3 := r.sized()
	_, ok4 := r.sized()
	if !ok1 || !ok2 || !ok3 || !ok4 || len(id) > quicMaxID || form&0xc0 != 0xc0 {
		return initial{}, nil, false
	}
	kind := form >> 4 & 3
	if version != quicVersion1 && version != quicVersion2 || version == quicVersion1 && kind != 0 || version == quicVersion2 && kind != 1 {
		return initial{}, nil, false
	}
	token, ok5 := r.varint()
	_, ok6 := r.take(token)
	length, ok7 := r.varint()
	if !ok5 || !ok6 || !ok7 || length > uint64(len(r.rest)) || length < 4+quicSample {
		return initial{}, nil, false
	}
	number := len(datagram) - len(r.rest)
	end := number + int(length)
	return initial{version: version, id: id, data: datagram[:end], number: number}, datagram[end:], true
}

// open decrypts the packet's frames, with the keys that come from a connection id.
func (p *initial) open(id []byte) ([]byte, bool) {
	keys, err := quicKeys(p.version, id)
	if err != nil {
		return nil, false
	}
	head := slices.Clone(p.data[:p.number+4])
	mask := keys.mask(p.data[p.number+4 : p.number+4+quicSample])
	head[0] ^= mask[0] & 0x0f
	size := int(head[0]&3) + 1
	head = head[:p.number+size]
	var number uint64
	for i := range size {
		head[p.number+i] ^= mask[1+i]
		number = number<<8 | uint64(head[p.number+i])
	}
	frames, err := keys.aead.Open(nil, keys.nonce(number), p.data[p.number+size:], head)
	return frames, err == nil
}

// keySet is the keys of a client's first packets.
type keySet struct {
	aead  cipher.AEAD
	block cipher.Block // of header protection
	iv    []byte
}

func quicKeys(version uint32, id []byte) (*keySet, error) {
	salt, prefix := "38762cf7f55934b34d179ae6a4c80cadccbb7f0a", "quic "
	if version == quicVersion2 {
		salt, prefix = "0dede3def700a6db819381be6e269dcbf9bd2ed9", "quicv2 "
	}
	salted, err := hex.DecodeString(salt)
	if err != nil {
		return nil, err
	}
	secret, err := hkdf.Extract(sha256.New, id, salted)
	if err != nil {
		return nil, err
	}
	client, err := expandLabel(secret, "client in", sha256.Size)
	if err != nil {
		return nil, err
	}
	var parts [3][]byte
	for i, part := range []struct {
		label string
		size  int
	}{{"key", 16}, {"iv", 12}, {"hp", 16}} {
		if parts[i], err = expandLabel(client, prefix+part.label, part.size); err != nil {
			return nil, err
		}
	}
	block, err := aes.NewCipher(parts[0])
	if err != nil {
		return nil, err
	}
	keys := &keySet{iv: parts[1]}
	if keys.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	keys.block, err = aes.NewCipher(parts[2])
	return keys, err
}

// expandLabel is HKDF-Expand-Label of TLS 1.3 without a context.
func expandLabel(secret []byte, label string, size int) ([]byte, error) {
	const prefix = "tls13 "
	info := binary.BigEndian.AppendUint16(nil, uint16(size))
	info = append(info, byte(len(prefix)+len(label)))
	info = append(info, prefix+label...)
	return hkdf.Expand(sha256.New, secret, string(append(info, 0)), size)
}

func (k *keySet) mask(sample []byte) [aes.BlockSize]byte {
	var mask [aes.BlockSize]byte
	k.block.Encrypt(mask[:], sample)
	return mask
}

func (k *keySet) nonce(number uint64) []byte {
	nonce := slices.Clone(k.iv)
	for i := range 8 {
		nonce[len(nonce)-1-i] ^= byte(number >> (8 * i))
	}
	return nonce
}

// frames takes the parts of the hello out of a packet's frames. What may not stand in a first packet ends it.
func (h *hello) frames(data []byte) {
	const padding, ping, ack, ackECN, crypto = 0, 1, 2, 3, 6
	r := quicReader{data}
	for len(r.rest) > 0 {
		kind, _ := r.byte()
		switch kind {
		case padding, ping:
		case ack, ackECN:
			if !r.ack(kind == ackECN) {
				return
			}
		case crypto:
			offset, ok1 := r.varint()
			size, ok2 := r.varint()
			bytes, ok3 := r.take(size)
			if !ok1 || !ok2 || !ok3 || offset > maxHello {
				return
			}
			h.put(piece{int(offset), bytes})
		default:
			return
		}
	}
}

// put adds a piece, and those that waited for it.
func (h *hello) put(p piece) {
	if p.offset > len(h.bytes) {
		if len(h.pieces) < maxHelloPieces {
			h.pieces = append(h.pieces, p)
		}
		return
	}
	known := len(h.bytes) - p.offset
	if known >= len(p.bytes) || p.offset+len(p.bytes) > maxHello {
		return
	}
	h.bytes = append(h.bytes, p.bytes[known:]...)
	waiting := h.pieces
	h.pieces = nil
	for _, w := range waiting {
		h.put(w)
	}
}

// read reads the hello once all of it is there. It is decided when no more bytes can change that.
func (h *hello) read() (request *event.NetworkRequest, decided bool) {
	const clientHello, head = 1, 4
	if len(h.bytes) < head {
		return nil, false
	}
	size := head + int(h.bytes[1])<<16 + int(h.bytes[2])<<8 + int(h.bytes[3])
	if h.bytes[0] != clientHello || size > maxHello {
		return nil, true
	}
	if len(h.bytes) < size {
		return nil, false
	}
	// TLS in QUIC comes without records: put into one, the library reads it.
	const handshake = 0x16
	record := append([]byte{handshake, 3, 1, byte(size >> 8), byte(size)}, h.bytes[:size]...)
	request, _ = readTLS(record)
	if request != nil {
		request.Protocol = "quic"
	}
	return request, true
}

// quicReader reads the fields of packets and frames.
type quicReader struct{ rest []byte }

func (r *quicReader) take(n uint64) ([]byte, bool) {
	if n > uint64(len(r.rest)) {
		return nil, false
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken, true
}

func (r *quicReader) byte() (byte, bool) {
	b, ok := r.take(1)
	if !ok {
		return 0, false
	}
	return b[0], true
}

func (r *quicReader) uint32() (uint32, bool) {
	b, ok := r.take(4)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

// sized is bytes with their number, in one byte, before them.
func (r *quicReader) sized() ([]byte, bool) {
	n, ok := r.byte()
	if !ok {
		return nil, false
	}
	return r.take(uint64(n))
}

// varint is a number whose first two bits tell its size (RFC 9000, section 16).
func (r *quicReader) varint() (uint64, bool) {
	if len(r.rest) == 0 {
		return 0, false
	}
	b, ok := r.take(1 << (r.rest[0] >> 6))
	if !ok {
		return 0, false
	}
	value := uint64(b[0] & 0x3f)
	for _, c := range b[1:] {
		value = value<<8 | uint64(c)
	}
	return value, true
}

// ack passes over the rest of an ACK frame.
func (r *quicReader) ack(ecn bool) bool {
	_, ok1 := r.varint() // the largest that is acknowledged
	_, ok2 := r.varint() // the delay
	ranges, ok3 := r.varint()
	_, ok4 := r.varint() // the first range
	numbers := 2 * ranges
	if ecn {
		numbers += 3
	}
	// Each takes a byte at least.
	if !ok1 || !ok2 || !ok3 || !ok4 || ranges > uint64(len(r.rest)) || numbers > uint64(len(r.rest)) {
		return false
	}
	for range numbers {
		if _, ok := r.varint(); !ok {
			return false
		}
	}
	return true
}

// datagram takes one of the first datagrams to a peer: what it asks for is told once it is known.
func (p *Pipeline) datagram(state *sandboxState, r *bpf.Record, d *bpf.Datagram) {
	p.start(state, r.Time)
	request := state.hellos.add(d)
	p.evicted(state, &state.hellos.evicted)
	if request == nil {
		return
	}
	request.Transport, request.Peer, request.Via = event.TransportUDP, d.Peer, d.Via
	p.requested(state, r, request)
}
