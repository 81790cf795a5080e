// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/internal/replace"
)

// Checkpoint is a signed statement: after the record before Ordinal the lane's chain had this hash. It stands
// in the lane itself; the latest of each lane stand in the file "head.json" too, a copy of which, kept
// elsewhere, proves later that nothing before it was cut off.
type Checkpoint struct {
	Journal string `json:"journal"`
	Lane    string `json:"lane"`
	// Ordinal is the number of the lane's next record.
	Ordinal uint64 `json:"ordinal"`
	// Hash is the chain in hexadecimal.
	Hash string    `json:"hash"`
	Time time.Time `json:"time"`
	// Key is the fingerprint of the public key, Signature what it verifies, in base64.
	Key       string `json:"key"`
	Signature string `json:"signature"`
}

// statement is what is signed.
func (c *Checkpoint) statement() []byte {
	return fmt.Appendf(nil, "watchglass journal checkpoint\n%s\n%s\n%d\n%s\n%s\n",
		c.Journal, c.Lane, c.Ordinal, c.Hash, c.Time.UTC().Format(time.RFC3339Nano))
}

func (c *Checkpoint) sign(key ed25519.PrivateKey) {
	public, _ := key.Public().(ed25519.PublicKey)
	c.Key = Fingerprint(public)
	c.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(key, c.statement()))
}

// verify says what is wrong with the signature, or nil.
func (c *Checkpoint) verify(key ed25519.PublicKey) error {
	signature, err := base64.StdEncoding.DecodeString(c.Signature)
	if err != nil {
		return fmt.Errorf("the signature is not base64: %w", err)
	}
	if c.Key != Fingerprint(key) {
		return fmt.Errorf("signed by key %.16s, not by %.16s", c.Key, Fingerprint(key))
	}
	if !ed25519.Verify(key, c.statement(), signature) {
		return errors.New("the signature is wrong")
	}
	return nil
}

// Fingerprint names a public key: the SHA-256 of its bytes, in hexadecimal.
func Fingerprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:])
}

// keyName is the private key's file where the configuration names none; publicName is always the public one's.
const (
	keyName    = "key"
	publicName = "key.pub"
	headName   = "head.json"
)

// openKey reads the private key, made anew when it is not there, and puts the public one into the folder.
func openKey(cfg *Config) (ed25519.PrivateKey, error) {
	path := cfg.KeyFile
	if path == "" {
		path = filepath.Join(cfg.Dir, keyName)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key that signs the journal: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("read the key that signs the journal: %s holds no PEM block PRIVATE KEY", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the key that signs the journal: %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read the key that signs the journal: %s: not an Ed25519 key", path)
	}
	public, _ := key.Public().(ed25519.PublicKey)
	encoded, err := EncodePublicKey(public)
	if err != nil {
		return nil, err
	}
	where := filepath.Join(cfg.Dir, publicName)
	if old, err := os.ReadFile(where); err == nil && string(old) == string(encoded) {
		return key, nil
	}
	if err := replace.File(where, encoded, 0o644); err != nil {
		return nil, fmt.Errorf("write the public key of the journal: %w", err)
	}
	return key, nil
}

func makeKey(path string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return text, replace.File(path, text, 0o600)
}

// EncodePublicKey is a public key as a PEM file has it.
func EncodePublicKey(key ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ReadPublicKey reads a public key from a PEM file; "" as path means the one in the journal's folder.
func ReadPublicKey(path, dir string) (ed25519.PublicKey, error) {
	if path == "" {
		path = filepath.Join(dir, publicName)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("read the public key: %s holds no PEM block PUBLIC KEY", path)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("read the public key: %s: not an Ed25519 key", path)
	}
	return key, nil
}

// swapSize is the size of the files that swapFile swaps: a block of any usual file system.
const swapSize = 4096

// swapFile makes a file hold this text as replace.File does, on a full disk too: the file and a spare one of the same
// size take turns, and neither ever needs a block more. What is behind the text is blank.
func swapFile(path string, text []byte) error {
	const mode = 0o600
	if len(text) > swapSize {
		return replace.File(path, text, mode)
	}
	padded := append(slices.Clip(text), bytes.Repeat([]byte("\n"), swapSize-len(text))...)
	spare := path + ".spare"
	if writeSpare(spare, padded, mode) != nil {
		return replace.File(path, text, mode)
	}
	err := unix.Renameat2(unix.AT_FDCWD, spare, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist): // the first time
		if err := os.Rename(spare, path); err != nil {
			return fmt.Errorf("replace %s: %w", path, err)
		}
		// Now, while there is room. Without it, the next time does it, or says so.
		_ = writeSpare(spare, padded, mode)
		return nil
	}
	return replace.File(path, text, mode) // a file system that cannot swap
}

// writeSpare writes over the file where it is: no block is given back, none is asked for.
func writeSpare(path string, text []byte, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(text, 0)
	return errors.Join(err, file.Sync(), file.Close())
}

// readHeads is the latest checkpoints by "head.json"; none when there is no such file.
func readHeads(path string) ([]Checkpoint, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the latest checkpoints: %w", err)
	}
	var heads []Checkpoint
	if err := json.Unmarshal(text, &heads); err != nil {
		return nil, fmt.Errorf("read the latest checkpoints: %s: %w", path, err)
	}
	return heads, nil
}

// checkpoint signs the lane's chain, in the lane.
func (l *laneWriter) checkpoint(key ed25519.PrivateKey) (*Checkpoint, error) {
	if l.file == nil || !l.unsigned {
		return nil, nil
	}
	c := &Checkpoint{
		Journal: hex.EncodeToString(l.id[:]), Lane: l.lane.String(), Ordinal: l.head,
		Hash: hex.EncodeToString(l.chain.sum[:]), Time: time.Now().UTC(),
	}
	c.sign(key)
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("sign the journal's lane %s: %w", l.lane, err)
	}
	if err := l.control(frameCheckpoint, text, 0); err != nil {
		return nil, err
	}
	l.unsigned = false
	return c, nil
}
