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
	"path"
	"strings"
	"sync"
	"syscall"
	"unicode"
)

// maxKeyFile bounds a key file, in bytes: an RSA key of 8192 bits takes 6.4 kB, encrypted 6.7.
const maxKeyFile = 64 << 10

// keyFiles is the file backend: one key a file, PKCS #8 in PEM or encrypted, reached only below its folder. References are
// paths there.
type keyFiles struct {
	root  *os.Root
	vault *vault     // nil: files are plain
	turn  sync.Mutex // held while a file comes or goes
}

var _ backend = (*keyFiles)(nil)

// openKeyFiles opens the folder. Whoever could write it could swap keys, so that only root and keyd's user may.
func openKeyFiles(dir string) (*keyFiles, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening key folder: %w", err)
	}
	d, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening key folder: %w", err), root.Close())
	}
	defer d.Close()
	if err := checkOwned(d, 0o022); err != nil {
		return nil, errors.Join(fmt.Errorf("opening key folder: %s %w", dir, err), root.Close())
	}
	return &keyFiles{root: root}, nil
}

// encrypted reports whether the folder's keys are encrypted.
func (k *keyFiles) encrypted() (bool, error) {
	_, err := k.root.Lstat(masterFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// unlock opens an encrypted folder.
func (k *keyFiles) unlock(passphrase []byte) error {
	data, err := k.read(masterFile)
	if err != nil {
		return err
	}
	k.vault, err = openMaster(passphrase, data)
	return err
}

func (k *keyFiles) close() error {
	if k.vault != nil {
		k.vault.wipe()
	}
	return k.root.Close()
}

// freshPrefix begins the name of a file that is being written. What a killed process left under one is nobody's key.
const freshPrefix = ".new-"

// checkRef accepts a path below the folder that is free for a key. os.Root refuses the rest, too, but not with one voice.
func checkRef(ref string) error {
	base := path.Base(ref)
	if !fs.ValidPath(ref) || base == "." || base == masterFile || strings.HasPrefix(base, freshPrefix) || strings.ContainsFunc(ref, unicode.IsControl) {
		return fmt.Errorf("%q is no name of a key file", ref)
	}
	return nil
}

// open reads one key.
func (k *keyFiles) open(ref string) (crypto.Signer, error) {
	ref = path.Clean(ref)
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	data, err := k.read(ref)
	defer clear(data)
	if err != nil {
		return nil, err
	}
	private, err := k.decode(ref, data)
	if err != nil {
		return nil, fmt.Errorf("%s %w", ref, err)
	}
	return private, nil
}

// read returns a file's bytes. os.Root refuses a symlink that leads out of the folder; the file's own owner and mode are
// asked of the opened file, so that nothing can change in between.
func (k *keyFiles) read(file string) ([]byte, error) {
	f, err := k.root.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // O_NONBLOCK: a FIFO must not hold us up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkPrivate(f); err != nil {
		return nil, fmt.Errorf("%s %w", file, err)
	}
	data := make([]byte, maxKeyFile) // a buffer that grows leaves copies behind
	n, err := io.ReadFull(f, data)
	if err == nil {
		return data, fmt.Errorf("%s is larger than %d bytes", file, maxKeyFile-1)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return data[:n], err
}

func (k *keyFiles) decode(ref string, data []byte) (crypto.Signer, error) {
	switch isSealed := bytes.HasPrefix(data, []byte("-----BEGIN "+keyType)); {
	case k.vault == nil && isSealed:
		return nil, fmt.Errorf("is encrypted, and the folder has no %s to open it with", masterFile)
	case k.vault == nil:
		return parsePrivate(data)
	case !isSealed && bytes.HasPrefix(data, []byte("-----BEGIN "+plainType)):
		return nil, errors.New("is not encrypted, and the folder is: run keyd encrypt")
	}
	return k.vault.openKey(ref, data)
}

// encodeKey returns the file of a key: encrypted in a vault, else plain.
func encodeKey(v *vault, ref string, private crypto.Signer) ([]byte, error) {
	if v != nil {
		return v.sealKey(path.Clean(ref), private)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return pemBlock(plainType, der), nil
}

// generate writes a new key. It gets its name when it is whole and on disk.
func (k *keyFiles) generate(ref string, kind keyKind) (crypto.Signer, error) {
	if err := checkRef(path.Clean(ref)); err != nil {
		return nil, err
	}
	private, err := newPrivate(kind)
	if err != nil {
		return nil, err
	}
	data, err := encodeKey(k.vault, ref, private)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	if err := k.add(ref, data); err != nil {
		return nil, fmt.Errorf("writing a new key: %w", err)
	}
	return private, nil
}

// add writes a file that must not exist, durable on return.
func (k *keyFiles) add(file string, data []byte) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	fresh, err := k.writeFresh(file, data)
	if err != nil {
		return err
	}
	if err := k.root.Link(fresh, file); err != nil { // unlike a rename it replaces nothing
		return errors.Join(err, k.root.Remove(fresh))
	}
	if err := errors.Join(k.root.Remove(fresh), k.sync(file)); err != nil {
		return errors.Join(err, k.root.Remove(file))
	}
	return nil
}

// replace puts other bytes in a file's place, durable on return, once check has accepted what is on disk. At every moment
// the file is the old one or the new one, whole; then the old bytes are overwritten.
func (k *keyFiles) replace(file string, data []byte, check func(written []byte) error) (err error) {
	k.turn.Lock()
	defer k.turn.Unlock()
	if err := k.root.Chmod(file, 0o600); err != nil { // it may be 0400
		return err
	}
	old, err := k.root.OpenFile(file, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	fresh, err := k.writeFresh(file, data)
	if err != nil {
		return err
	}
	written, err := k.read(fresh)
	if err == nil {
		err = check(written)
	}
	if err != nil {
		return errors.Join(err, k.root.Remove(fresh))
	}
	if err := errors.Join(k.root.Rename(fresh, file), k.sync(file)); err != nil {
		return err
	}
	return overwrite(old, 0)
}

// writeFresh writes the bytes beside the file that they are for, and syncs them.
func (k *keyFiles) writeFresh(file string, data []byte) (fresh string, err error) {
	fresh = freshName(file)
	if err := k.remove(fresh); err != nil {
		return "", err
	}
	f, err := k.root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, k.root.Remove(fresh))
	}
	return fresh, nil
}

func freshName(file string) string { return path.Join(path.Dir(file), freshPrefix+path.Base(file)) }

// destroy overwrites the file and removes it. A disk that copies on write keeps what stood there for a while: then only an
// encrypted file or a token makes a key unreadable at once.
func (k *keyFiles) destroy(ref string) error {
	if err := checkRef(path.Clean(ref)); err != nil {
		return err
	}
	k.turn.Lock()
	defer k.turn.Unlock()
	if err := errors.Join(k.remove(ref), k.remove(freshName(ref))); err != nil {
		return err
	}
	return k.sync(ref)
}

// remove removes one name, if it exists, and overwrites a file that has no other name. A new one has two when keyd is
// killed while it gets its own.
func (k *keyFiles) remove(file string) error {
	info, err := k.root.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return k.root.Remove(file)
	}
	f, err := k.root.OpenFile(file, os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil { // what we may not write, we may still remove
		return k.root.Remove(file)
	}
	if err := errors.Join(overwrite(f, 1), f.Close()); err != nil {
		return err
	}
	return k.root.Remove(file)
}

// overwrite puts zeros where the bytes of a file that was just opened are, unless it has more names than that.
func overwrite(f *os.File, names uint64) error {
	info, err := f.Stat()
	if err != nil || uint64(info.Sys().(*syscall.Stat_t).Nlink) > names {
		return err
	}
	_, err = f.Write(make([]byte, min(info.Size(), maxKeyFile)))
	return errors.Join(err, f.Sync())
}

// sync makes the names of the file's folder durable.
func (k *keyFiles) sync(file string) error {
	d, err := k.root.Open(path.Dir(file))
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
	if block == nil || block.Type != plainType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("is not one PEM block of type PRIVATE KEY (PKCS #8)")
	}
	return parsePKCS8(block.Bytes)
}

// parsePKCS8 wipes what it is given.
func parsePKCS8(der []byte) (crypto.Signer, error) {
	defer clear(der)
	private, err := x509.ParsePKCS8PrivateKey(der)
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
