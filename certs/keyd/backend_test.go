package keyd

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// suite is what every backend must do. open opens the backend that is in a folder, making it the first time; opened again,
// it holds what it held.
type suite struct {
	kinds   []keyKind // that it makes
	refused []keyKind // that it does not
	open    func(t *testing.T, dir string) backend
}

var (
	allKinds = []keyKind{kindP256, kindP384, kindEd25519, kindRSA2048}
	oddKinds = []keyKind{"", "p224", "rsa1024", "P256"}
)

func TestBackendPlainFiles(t *testing.T) {
	suite{kinds: allKinds, refused: oddKinds, open: openPlain}.run(t)
}

func TestBackendEncryptedFiles(t *testing.T) {
	suite{kinds: allKinds, refused: oddKinds, open: openEncrypted}.run(t)
}

func openPlain(t *testing.T, dir string) backend {
	t.Helper()
	files, err := openKeyFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

const testPassphrase = "correct horse battery staple"

// lowCost is the least that is accepted.
var lowCost = cost{time: 1, memory: 19 << 10, threads: 1}

func openEncrypted(t *testing.T, dir string) backend {
	t.Helper()
	files := openPlain(t, dir).(*keyFiles)
	if is, err := files.encrypted(); err != nil {
		t.Fatal(err)
	} else if !is {
		if err := files.add(masterFile, newVault().sealMaster([]byte(testPassphrase), lowCost)); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.unlock([]byte(testPassphrase)); err != nil {
		t.Fatal(err)
	}
	return files
}

func (s suite) run(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"every kind signs":              s.everyKindSigns,
		"other kinds are refused":       s.otherKindsAreRefused,
		"a key stays the same":          s.aKeyStaysTheSame,
		"no key twice":                  s.noKeyTwice,
		"destroyed is gone":             s.destroyedIsGone,
		"many at once":                  s.manyAtOnce,
		"one of many makes the key":     s.oneOfManyMakesTheKey,
		"hostile references":            s.hostileReferences,
		"closed":                        s.closed,
		"a full disk loses nothing":     s.aFullDiskLosesNothing,
		"generations beside each other": s.generations,
	} {
		t.Run(name, test)
	}
}

// fresh is an empty backend, and what closes it and opens it again.
func (s suite) fresh(t *testing.T) (b backend, again func() backend) {
	t.Helper()
	return s.in(t, t.TempDir())
}

func (s suite) in(t *testing.T, dir string) (b backend, again func() backend) {
	t.Helper()
	b = s.open(t, dir)
	t.Cleanup(func() { b.close() })
	return b, func() backend {
		if err := b.close(); err != nil {
			t.Error(err)
		}
		b = s.open(t, dir)
		return b
	}
}

func mustMake(t *testing.T, b backend, ref string, kind keyKind) crypto.Signer {
	t.Helper()
	key, err := b.generate(ref, kind)
	if err != nil {
		t.Fatalf("generating %s %s: %v", kind, ref, err)
	}
	return key
}

func mustOpen(t *testing.T, b backend, ref string) crypto.Signer {
	t.Helper()
	key, err := b.open(ref)
	if err != nil {
		t.Fatalf("opening %s: %v", ref, err)
	}
	return key
}

// works reports why a key does not sign a handshake, what every kind can.
func works(key crypto.Signer) error {
	sign, err := tlsSigner(key, serverSide.check)
	if err != nil {
		return err
	}
	message := append([]byte(serverSide.certificateVerify()), make([]byte, 32)...)
	rand.Read(message[len(message)-32:])
	sig, err := sign(message)
	if err == nil && !verifies(key.Public(), message, sig) {
		err = errors.New("the signature does not verify")
	}
	return err
}

// same reports whether two keys are one.
func same(a, b crypto.Signer) bool {
	return a.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(b.Public())
}

func (s suite) everyKindSigns(t *testing.T) {
	b, _ := s.fresh(t)
	for _, kind := range s.kinds {
		key := mustMake(t, b, string(kind), kind)
		if got := kindOf(key.Public()); got != string(kind) {
			t.Errorf("got a key of kind %s, want %s", got, kind)
		}
		for _, k := range []crypto.Signer{key, mustOpen(t, b, string(kind))} {
			if err := works(k); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
		switch key.Public().(type) {
		case *ecdsa.PublicKey:
			if sign, err := jwtSigner(key, func([]byte) error { return nil }); kind == kindP256 {
				if err != nil {
					t.Fatal(err)
				}
				checkFixed(t, key.Public().(*ecdsa.PublicKey), sign)
			}
		case ed25519.PublicKey:
			if _, err := newNoteSigner("corp.example/log", key); err != nil {
				t.Error(err)
			}
		}
	}
}

func (s suite) otherKindsAreRefused(t *testing.T) {
	b, _ := s.fresh(t)
	for _, kind := range s.refused {
		if _, err := b.generate("odd", kind); err == nil || errors.Is(err, fs.ErrExist) {
			t.Errorf("%q: got %v, want an error", kind, err)
		}
		if _, err := b.open("odd"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: got %v, want nothing there", kind, err)
		}
	}
}

func (s suite) aKeyStaysTheSame(t *testing.T) {
	b, again := s.fresh(t)
	made := map[string]crypto.PublicKey{}
	for _, kind := range s.kinds {
		made[string(kind)] = mustMake(t, b, string(kind), kind).Public()
	}
	b = again()
	for ref, public := range made {
		key := mustOpen(t, b, ref)
		if !same(key, distant{key}) || !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%s is another key now", ref)
		}
		if err := works(key); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func (s suite) noKeyTwice(t *testing.T) {
	b, again := s.fresh(t)
	first := mustMake(t, b, "key", kindP256)
	for _, kind := range s.kinds {
		if _, err := b.generate("key", kind); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: got %v, want fs.ErrExist", kind, err)
		}
	}
	for range 2 {
		if !same(first, mustOpen(t, b, "key")) {
			t.Error("the key is another one")
		}
		b = again()
	}
}

func (s suite) destroyedIsGone(t *testing.T) {
	b, again := s.fresh(t)
	for _, kind := range s.kinds {
		mustMake(t, b, string(kind), kind)
	}
	kept := mustMake(t, b, "kept", kindP256)
	for _, ref := range append(slices.Clone(s.kinds), "never-was") {
		if err := b.destroy(string(ref)); err != nil {
			t.Errorf("destroying %s: %v", ref, err)
		}
	}
	for range 2 {
		for _, ref := range s.kinds {
			if _, err := b.open(string(ref)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got %v, want fs.ErrNotExist", ref, err)
			}
		}
		if !same(kept, mustOpen(t, b, "kept")) {
			t.Error("another key is gone")
		}
		b = again()
	}
	if same(mustMake(t, b, string(kindP256), kindP256), kept) { // the name is free again
		t.Error("two keys are one")
	}
}

func (s suite) generations(t *testing.T) {
	b, again := s.fresh(t)
	first, second := mustMake(t, b, "wiki.pem", kindP256), mustMake(t, b, "wiki.2.pem", kindP256)
	if err := b.destroy("wiki.pem"); err != nil {
		t.Fatal(err)
	}
	b = again()
	if key := mustOpen(t, b, "wiki.2.pem"); !same(key, second) || same(key, first) {
		t.Error("the second generation is another key")
	}
}

func (s suite) manyAtOnce(t *testing.T) {
	b, _ := s.fresh(t)
	shared := mustMake(t, b, "shared", kindP256)
	var working sync.WaitGroup
	for n := range 16 {
		working.Go(func() {
			ref := fmt.Sprintf("key-%d", n)
			if _, err := b.generate(ref, kindP256); err != nil {
				t.Errorf("generating: %v", err)
				return
			}
			key, err := b.open(ref)
			if err != nil {
				t.Errorf("opening: %v", err)
				return
			}
			for range 20 {
				if err := errors.Join(works(key), works(shared)); err != nil {
					t.Errorf("signing: %v", err)
					return
				}
			}
			if n%2 == 0 {
				if err := b.destroy(ref); err != nil {
					t.Errorf("destroying: %v", err)
				}
			}
		})
	}
	working.Wait()
}

func (s suite) oneOfManyMakesTheKey(t *testing.T) {
	b, _ := s.fresh(t)
	var made atomic.Pointer[crypto.Signer]
	var working sync.WaitGroup
	for range 8 {
		working.Go(func() {
			key, err := b.generate("key", kindP256)
			if err == nil && made.Swap(&key) != nil {
				t.Error("the key was made twice")
			}
			if err != nil && !errors.Is(err, fs.ErrExist) {
				t.Errorf("got %v, want fs.ErrExist", err)
			}
		})
	}
	working.Wait()
	if key := made.Load(); key == nil || !same(*key, mustOpen(t, b, "key")) {
		t.Error("nobody made the key that is there")
	}
}

func (s suite) hostileReferences(t *testing.T) {
	outside := t.TempDir()
	if err := os.Mkdir(filepath.Join(outside, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	b, _ := s.in(t, filepath.Join(outside, "keys"))
	mustMake(t, b, "key", kindP256)
	canary := filepath.Join(outside, "canary")
	if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{
		"", ".", "..", "/", "../canary", "a/../../canary", canary, "/etc/passwd", "key\x00", "\x00", "key\n", strings.Repeat("k", 5000),
		strings.Repeat("k/", 3000) + "k", "../keys/key", masterFile + "/..", "key/../../keys/key",
	} {
		for _, kind := range s.kinds[:1] {
			if key, err := b.generate(ref, kind); err == nil {
				t.Errorf("generated %.40q: %v", ref, key.Public())
			}
		}
		if _, err := b.open(ref); err == nil {
			t.Errorf("opened %.40q", ref)
		}
		// What cannot be a key may be destroyed, as what is none: nothing happens.
		_ = b.destroy(ref)
	}
	if data, err := os.ReadFile(canary); err != nil || string(data) != "alive" {
		t.Errorf("a file outside was touched: %q %v", data, err)
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) != 2 {
		t.Errorf("got %v %v outside, want what was there", names, err)
	}
	mustOpen(t, b, "key")
}

func (s suite) closed(t *testing.T) {
	b, _ := s.fresh(t)
	mustMake(t, b, "key", kindP256)
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.open("key"); err == nil {
		t.Error("a closed backend opens keys")
	}
	if _, err := b.generate("another", kindP256); err == nil {
		t.Error("a closed backend makes keys")
	}
}

func (s suite) aFullDiskLosesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	b, again := s.in(t, dir)
	first := mustMake(t, b, "first", kindP256)
	full := fill(t, filepath.Join(dir, "filler"))
	if _, err := b.generate("second", kindP256); err == nil {
		t.Fatal("a key was made on a full disk")
	}
	if !same(first, mustOpen(t, b, "first")) {
		t.Error("the first key is another one")
	}
	full()
	b = again()
	if !same(first, mustOpen(t, b, "first")) {
		t.Error("the first key is another one after a start")
	}
	if _, err := b.open("second"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no second key", err)
	}
	second := mustMake(t, b, "second", kindP256)
	if !same(second, mustOpen(t, again(), "second")) {
		t.Error("the second key is another one")
	}
}

// fill takes all that is left of a disk, to the last byte, and returns what gives it back.
func fill(t *testing.T, path string) (free func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := 1 << 16; n > 0; n /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, n))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesAreWholeOrNothing(t *testing.T) {
	for name, open := range map[string]func(*testing.T, string) backend{"plain": openPlain, "encrypted": openEncrypted} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir)
			key := mustMake(t, b, "key", kindP256)
			path := filepath.Join(dir, "key")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for n := range data {
				if err := os.WriteFile(path, data[:n], 0o600); err != nil {
					t.Fatal(err)
				}
				// PEM of a plain file may lack its last line end.
				if got, err := b.open("key"); err == nil && !(same(got, key) && len(bytes.TrimSpace(data)) <= n) {
					t.Fatalf("opened the first %d of %d bytes", n, len(data))
				}
			}
			for name, spoil := range map[string]func() error{
				"group may read":  func() error { return os.Chmod(path, 0o640) },
				"others may read": func() error { return os.Chmod(path, 0o604) },
				"somebody else's": func() error { return os.Chown(path, 61003, -1) },
				"too large":       func() error { return os.WriteFile(path, append(data, make([]byte, maxKeyFile)...), 0o600) },
				"a folder":        func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
				"a pipe":          func() error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
				"a link to it":    func() error { return errors.Join(os.Rename(path, path+"2"), os.Symlink("../key2", path)) },
			} {
				if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, data, 0o600)); err != nil {
					t.Fatal(err)
				}
				mustOpen(t, b, "key")
				if err := spoil(); err != nil {
					t.Fatal(err)
				}
				if _, err := b.open("key"); err == nil {
					t.Errorf("%s: opened", name)
				}
			}
		})
	}
}

// A process that is killed while a key gets its name leaves the file under two: the key is not lost by what comes then.
func TestAKeyThatWasJustMadeSurvivesAKill(t *testing.T) {
	for name, open := range map[string]func(*testing.T, string) backend{"plain": openPlain, "encrypted": openEncrypted} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir)
			key := mustMake(t, b, "key", kindP256)
			left := filepath.Join(dir, freshPrefix+"key")
			if err := os.Link(filepath.Join(dir, "key"), left); err != nil {
				t.Fatal(err)
			}
			if _, err := b.generate("key", kindP256); !errors.Is(err, fs.ErrExist) {
				t.Errorf("got %v, want fs.ErrExist", err)
			}
			if !same(key, mustOpen(t, b, "key")) {
				t.Error("the key is another one")
			}
			if err := os.Link(filepath.Join(dir, "key"), left); err != nil {
				t.Fatal(err)
			}
			if err := b.destroy("key"); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"key", freshPrefix + "key"} {
				if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
					t.Errorf("%s is left", name)
				}
			}
		})
	}
}

func TestADestroyedFileIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	b := openPlain(t, dir)
	mustMake(t, b, "key", kindP256)
	f, err := os.Open(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := b.destroy("key"); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 4096)
	n, err := f.Read(data)
	if err != nil || len(bytes.Trim(data[:n], "\x00")) > 0 {
		t.Errorf("got %q %v, want zeros", data[:n], err)
	}
}
