package keyd

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxKeyFile bounds a key file, in bytes: an RSA key of 8192 bits takes 6.4 kB.
const maxKeyFile = 64 << 10

// keyFiles is the file backend: PKCS #8 in PEM, one key a file, reached only below its folder.
type keyFiles struct{ root *os.Root }

var _ backend = keyFiles{}

// openKeyFiles opens the folder. Whoever could write it could swap keys, so that only root and keyd's user may.
func openKeyFiles(dir string) (keyFiles, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return keyFiles{}, fmt.Errorf("opening key folder: %w", err)
	}
	d, err := root.Open(".")
	if err != nil {
		return keyFiles{}, errors.Join(fmt.Errorf("opening key folder: %w", err), root.Close())
	}
	defer d.Close()
	if err := checkOwned(d, 0o022); err != nil {
		return keyFiles{}, errors.Join(fmt.Errorf("opening key folder: %s %w", dir, err), root.Close())
	}
	return keyFiles{root}, nil
}

func (k keyFiles) close() error { return k.root.Close() }

// open reads one key. os.Root refuses a symlink that leads out of the folder; the file's own owner and mode are asked
// of the opened file, so that nothing can change in between.
func (k keyFiles) open(file string) (crypto.Signer, error) {
	f, err := k.root.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // O_NONBLOCK: a FIFO must not hold us up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkPrivate(f); err != nil {
		return nil, fmt.Errorf("%s %w", file, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	defer clear(data)
	if err != nil {
		return nil, err
	}
	private, err := parsePrivate(data)
	if err != nil {
		return nil, fmt.Errorf("%s %w", file, err)
	}
	return private, nil
}

// generate writes a new key to a file that must not exist, and syncs it and the folder.
func (k keyFiles) generate(file string, kind keyKind) (crypto.Signer, error) {
	private, err := newPrivate(kind)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	data := pemBlock("PRIVATE KEY", der)
	defer clear(data)
	f, err := k.root.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, k.root.Remove(file))
	}
	return private, k.sync()
}

// destroy removes the file. What stood in it may stay on the disk until the disk writes there again: only an encrypted
// file or a token makes a key unreadable at once.
func (k keyFiles) destroy(file string) error {
	if err := k.root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return k.sync()
}

func (k keyFiles) sync() error {
	d, err := k.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func newPrivate(kind keyKind) (crypto.Signer, error) {
	switch kind {
	case kindP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case kindP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case kindRSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case kindEd25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("BUG: unknown kind of key %q", kind)
}

// parsePrivate never puts a byte of the key into its error.
func parsePrivate(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("is not one PEM block of type PRIVATE KEY (PKCS #8)")
	}
	defer clear(block.Bytes)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("does not hold a private key that can be read")
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("holds a key that cannot sign")
	}
	return signer, nil
}

// checkPrivate demands a regular file of our own that group and others cannot touch.
func checkPrivate(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("is not a regular file")
	}
	if owner := ownerOf(info); owner != os.Geteuid() {
		return fmt.Errorf("belongs to uid %d: keyd runs as uid %d", owner, os.Geteuid())
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return fmt.Errorf("has mode %04o, open to group or others: chmod 600", m)
	}
	return nil
}

// checkOwned demands that root or keyd's user owns f, and that none of the forbidden mode bits is set.
func checkOwned(f *os.File, forbidden fs.FileMode) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return checkOwnedInfo(info, forbidden)
}

func checkOwnedInfo(info fs.FileInfo, forbidden fs.FileMode) error {
	if owner := ownerOf(info); owner != 0 && owner != os.Geteuid() {
		return fmt.Errorf("belongs to uid %d: want root or uid %d", owner, os.Geteuid())
	}
	if m := info.Mode().Perm(); m&forbidden != 0 {
		return fmt.Errorf("has mode %04o: chmod %04o", m, m&^forbidden)
	}
	return nil
}

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }
