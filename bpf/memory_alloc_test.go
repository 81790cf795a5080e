// SPDX-License-Identifier: Apache-2.0

package bpf

import "testing"

// TestDecodeAllocations holds decoding to its budget: nothing but a chunk of memory for every 16 records. Their texts were
// seen before; new ones take one each, since they are kept.
func TestDecodeAllocations(t *testing.T) {
	const chunk = 16
	for name, data := range allRecorded(t) {
		d := testDecoder()
		decode := func() {
			if _, err := d.decode(data); err != nil {
				t.Fatal(err)
			}
		}
		got := testing.AllocsPerRun(50, func() {
			for range chunk {
				decode()
			}
		})
		want, known := map[string]float64{
			"notable-syscallnotable": 1 + chunk, // its arguments, written out
			"process-existing":       1 * chunk, // once for each process, when it is found
			"dns-stream":             2 * chunk, // a copy of the bytes
			"dns-message":            2,         // of its records a quarter of a chunk each
		}[name]
		if !known {
			want = 1
		}
		if got != want {
			t.Errorf("decoding %d records %s takes %v allocations, want %v", chunk, name, got, want)
		}
	}
}

// allRecorded is a record of every kind: those that were recorded, and of what only a network shows ones that are made up.
func allRecorded(t *testing.T) map[string][]byte {
	t.Helper()
	all := recorded(t, "")
	message, err := answerMessage(7, "API.Example.com.", manyAddrs(2), 30)
	if err != nil {
		t.Fatal(err)
	}
	packet := dnsPacket{Size: uint32(len(message))}
	packet.Header.Kind = dnsKindMessage
	all["dns-message"] = recordBytes(t, &packet, append(message, make([]byte, packetSmall-len(message))...))
	packet.Header.Kind = dnsKindStream
	all["dns-stream"] = recordBytes(t, &packet, make([]byte, packetSmall))
	signal := notableSignal{Number: 9}
	signal.Header.Kind = uint16(notableNotableKindNOTABLE_SIGNAL)
	all["notable-signal"] = recordBytes(t, &signal, nil)
	for name, data := range all {
		renumber(data, name)
	}
	return all
}
