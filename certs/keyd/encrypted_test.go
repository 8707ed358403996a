package keyd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func sealedFolder(t *testing.T) (dir string, files *keyFiles) {
	t.Helper()
	dir = t.TempDir()
	files = openEncrypted(t, dir).(*keyFiles)
	t.Cleanup(func() { files.close() })
	return dir, files
}

func TestEncryptedFilesOpenUnderTheirOwnNameOnly(t *testing.T) {
	dir, files := sealedFolder(t)
	for _, ref := range []string{"wiki.pem", "payroll.pem", "wiki.2.pem"} {
		mustMake(t, files, ref, kindP256)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	wiki := read("wiki.pem")
	for name, data := range map[string][]byte{
		"another key's file":           read("payroll.pem"),
		"an older generation":          read("wiki.2.pem"),
		"with its own name written in": bytes.Replace(read("payroll.pem"), []byte("payroll.pem"), []byte("wiki.pem"), 1),
		"said to be another kind":      bytes.Replace(wiki, []byte("Kind: p256"), []byte("Kind: p384"), 1),
		"of a later version":           bytes.Replace(wiki, []byte("Version: 1"), []byte("Version: 2"), 1),
		"with another header":          bytes.Replace(wiki, []byte("Version: 1\n"), []byte("Version: 1\nComment: x\n"), 1),
		"without its kind":             bytes.Replace(wiki, []byte("Kind: p256\n"), nil, 1),
		"twice":                        append(bytes.Clone(wiki), wiki...),
		"with something behind":        append(bytes.Clone(wiki), '\n'),
		"with something before":        append([]byte("# hello\n"), wiki...),
		"plain":                        plainKey(t),
	} {
		if err := os.WriteFile(filepath.Join(dir, "wiki.pem"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := files.open("wiki.pem"); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func plainKey(t *testing.T) []byte {
	t.Helper()
	private, err := newPrivate(kindP256)
	if err != nil {
		t.Fatal(err)
	}
	data, err := encodeKey(nil, "key", private)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEveryChangedBitOfAnEncryptedFileIsNoticed(t *testing.T) {
	dir, files := sealedFolder(t)
	mustMake(t, files, "key", kindP256)
	path := filepath.Join(dir, "key")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(data) * 8 {
		spoilt := bytes.Clone(data)
		spoilt[n/8] ^= 1 << (n % 8)
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := files.open("key"); err == nil {
			t.Fatalf("opened with bit %d of byte %d changed: %q", n%8, n/8, spoilt[n/8])
		}
	}
}

func TestAKeyOfAnotherFolderDoesNotOpen(t *testing.T) {
	one, files := sealedFolder(t)
	two, others := sealedFolder(t)
	mustMake(t, files, "key", kindP256)
	data, err := os.ReadFile(filepath.Join(one, "key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(two, "key"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := others.open("key"); err == nil {
		t.Error("opened with another folder's master key")
	}
}

func TestFilesShowNeitherKeyNorMasterKey(t *testing.T) {
	_, files := sealedFolder(t)
	private := mustMake(t, files, "key", kindEd25519)
	for _, name := range []string{"key", masterFile} {
		data, err := files.read(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, files.vault.master) || strings.Contains(string(data), testPassphrase) {
			t.Errorf("%s shows a secret", name)
		}
	}
	if again := mustOpen(t, files, "key"); !sameKey(again, private) {
		t.Error("another key came back")
	}
	master := files.vault.master
	if err := files.close(); err != nil {
		t.Fatal(err)
	}
	if len(bytes.Trim(master, "\x00")) > 0 {
		t.Error("the master key stays in memory")
	}
}

func TestWrongPassphrasesSayNoMore(t *testing.T) {
	dir, _ := sealedFolder(t)
	files := openPlain(t, dir).(*keyFiles)
	defer files.close()
	for _, wrong := range []string{"", "c", testPassphrase + " ", testPassphrase[1:], strings.ToUpper(testPassphrase)} {
		err := files.unlock([]byte(wrong))
		if !errors.Is(err, ErrWrongSecret) || files.vault != nil {
			t.Errorf("got %v, want ErrWrongSecret", err)
		}
		if err != nil && err.Error() != "wrong passphrase or PIN, or master.pem was changed" {
			t.Errorf("got %q, want one sentence whatever is wrong", err)
		}
	}
	if _, err := files.open("key"); err == nil {
		t.Error("a locked folder opens keys")
	}
}

// A file on a disk that somebody else could write must not make keyd take all memory, nor a passphrase quick to guess.
func TestCostsOutOfBoundsAreRefusedBeforeTheyArePaid(t *testing.T) {
	dir, files := sealedFolder(t)
	path := filepath.Join(dir, masterFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{
		"m=4294967295,t=3,p=4", "m=262145,t=1,p=1", "m=65536,t=17,p=1", "m=65536,t=4294967295,p=1", "m=65536,t=1,p=17", "m=65536,t=1,p=255",
		"m=0,t=1,p=1", "m=19455,t=1,p=1", "m=65536,t=0,p=1", "m=65536,t=1,p=0", "m=65536,t=1,p=256", "m=-1,t=1,p=1", "m=99999999999999999999,t=1,p=1",
		"m=65536, t=1,p=1", "m=065536,t=1,p=1", "m=65536,t=1,p=1x", "m=65536,t=1", "", "t=1,m=65536,p=1", "m=0x10000,t=1,p=1",
	} {
		spoilt := bytes.Replace(data, []byte("Argon2id: "+lowCost.String()), []byte("Argon2id: "+c), 1)
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := files.unlock([]byte(testPassphrase)); err == nil || errors.Is(err, ErrWrongSecret) {
			t.Errorf("%s: got %v, want a refusal before it is tried", c, err)
		}
	}
	for _, c := range []cost{usualCost(), lowCost} {
		if got, err := parseCost(c.String()); err != nil || got != c {
			t.Errorf("got %v %v, want %v", got, err, c)
		}
	}
}

func TestAChangedMasterFileDoesNotOpen(t *testing.T) {
	dir, files := sealedFolder(t)
	path := filepath.Join(dir, masterFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(data); n += 7 {
		spoilt := bytes.Clone(data)
		spoilt[n] ^= 1
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := files.unlock([]byte(testPassphrase)); err == nil {
			t.Fatalf("opened with byte %d changed", n)
		}
	}
}

// What the parts are cannot be shifted from one into the next.
func TestBindingsOfDifferentPartsDiffer(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"a 1:b"}, {"1:a"}, {"a", "1:b"}} {
		b := string(binding(parts))
		if other, is := seen[b]; is {
			t.Errorf("%q and %q are bound alike", parts, other)
		}
		seen[b] = parts
	}
}

func TestFoldersAndConfigurationsAgreeOnEncryption(t *testing.T) {
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(passphrase, []byte(testPassphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	encrypted, _ := sealedFolder(t)
	plain := t.TempDir()
	for _, tt := range []struct {
		name, dir string
		source    SecretSource
		want      string
	}{
		{"plain", plain, SecretSource{}, ""},
		{"encrypted", encrypted, SecretSource{File: passphrase}, ""},
		{"plain where a passphrase is configured", plain, SecretSource{File: passphrase}, "is not encrypted"},
		{"encrypted and nobody to ask", encrypted, SecretSource{}, "no terminal"},
		{"a credential that systemd did not give", encrypted, SecretSource{Credential: "passphrase"}, "systemd gave no credentials"},
		{"no such file", encrypted, SecretSource{File: passphrase + "2"}, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noTerminal(t)
			b, err := openBackends(&Config{Dir: tt.dir, Passphrase: tt.source})
			if err == nil {
				defer b.close()
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// noTerminal takes away the one that a person runs the test from.
func noTerminal(t *testing.T) {
	t.Helper()
	null, err1 := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	kept, err2 := unix.FcntlInt(uintptr(unix.Stdin), unix.F_DUPFD_CLOEXEC, 3)
	if err := errors.Join(err1, err2, unix.Dup3(null, unix.Stdin, 0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Dup3(kept, unix.Stdin, 0), unix.Close(kept), unix.Close(null)); err != nil {
			t.Error(err)
		}
	})
}

func TestSecretsComeFromFilesOfOurOwn(t *testing.T) {
	dir := t.TempDir()
	c := &Config{credentials: dir}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("good", "secret\n", 0o600)
	write("windows", "secret\r\n", 0o400)
	write("acl", "secret", 0o440)
	write("group", "secret", 0o660)
	write("others", "secret", 0o604)
	write("lines", "secret\nsecret\n", 0o600)
	write("nul", "sec\x00ret", 0o600)
	write("empty", "\n", 0o600)
	write("large", strings.Repeat("x", maxSecret+1), 0o600)
	write("foreign", "secret", 0o600)
	if err := errors.Join(os.Chown(filepath.Join(dir, "foreign"), 61003, -1), os.Mkdir(filepath.Join(dir, "folder"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]bool{ // as a file, as a credential
		"good": {true, true}, "windows": {true, true}, "acl": {false, true},
		"group": {}, "others": {}, "lines": {}, "nul": {}, "empty": {}, "large": {}, "foreign": {}, "folder": {}, "missing": {},
	} {
		for n, source := range []SecretSource{{File: filepath.Join(dir, name)}, {Credential: name}} {
			secret, err := c.secret(source, "passphrase")
			if (err == nil) != want[n] || err == nil && string(secret) != "secret" {
				t.Errorf("%+v: got %q %v, want %v", source, secret, err, want[n])
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the secret: %v", err)
			}
		}
	}
}

func TestSecretSourcesAreChecked(t *testing.T) {
	for _, tt := range []struct{ add, want string }{
		{"passphrase: {file: a, credential: b}\n", "line 13: passphrase: either"},
		{"passphrase: {credential: ../b}\n", "line 13: passphrase: \"../b\" is no name"},
		{"passphrase: {credential: a/b}\n", "line 13: passphrase"},
		{"passphrase: {word: secret}\n", "word is not known"},
		{"passphrase: {file: a}\n", ""},
		{"pkcs11: {token: a}\n", "line 13: pkcs11: module"},
		{"pkcs11: {module: libsofthsm2.so, token: a}\n", "line 13: pkcs11: module"},
		{"pkcs11: {module: /a.so}\n", "line 13: pkcs11: token"},
		{"pkcs11: {module: /a.so, token: a, environment: {LD_PRELOAD: x}}\n", "line 13: pkcs11: environment"},
		{"pkcs11: {module: /a.so, token: a, folders: [/]}\n", "line 13: pkcs11: folders"},
		{"pkcs11: {module: /a.so, token: a, pin: {file: a, credential: b}}\n", "line 13: pkcs11: pin"},
		{"pkcs11: {module: /a.so, token: a, pin: {file: a}, environment: {SOFTHSM2_CONF: /a}, folders: [/var/lib/a]}\n", ""},
	} {
		_, err := parseConfig([]byte(goodConfig + tt.add))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.add, err, tt.want)
		}
	}
	text := strings.Replace(goodConfig, "file: says.pem", "pkcs11: says", 1)
	if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), "pkcs11 must say, beside keys") {
		t.Errorf("got %v, want a token for the key", err)
	}
	text = strings.Replace(goodConfig, "file: says.pem", "file: says.pem, pkcs11: says", 1)
	if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), "either file or pkcs11") {
		t.Errorf("got %v, want one place for a key", err)
	}
}

// What a person types: the line end is no part of it, a backspace takes one back, and Ctrl-C ends it.
func TestTypedSecrets(t *testing.T) {
	for typing, want := range map[string]string{
		"secret\n": "secret", "secret\r": "secret", "secrex\x7ft\n": "secret", "\x7f\x08secret\n": "secret", "\n": "",
	} {
		if got, err := typed(strings.NewReader(typing)); err != nil || string(got) != want {
			t.Errorf("%q: got %q %v, want %q", typing, got, err, want)
		}
	}
	for _, typing := range []string{"secret\x03", "secret\x04\n", "secret", strings.Repeat("x", maxSecret+1) + "\n"} {
		if got, err := typed(strings.NewReader(typing)); err == nil {
			t.Errorf("%.20q: got %q, want an error", typing, got)
		}
	}
}

// A property of both parsers: what opens is exactly what was written.
func FuzzEncryptedKey(f *testing.F) {
	v := newVault()
	private, err := newPrivate(kindEd25519)
	if err != nil {
		f.Fatal(err)
	}
	data, err := v.sealKey("key", private)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, other []byte) {
		if _, err := v.openKey("key", other); err == nil && !bytes.Equal(data, other) {
			t.Errorf("%q opens as well", other)
		}
	})
}
