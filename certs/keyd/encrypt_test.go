package keyd_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
	"sallyport/test/memscan"
)

const passphrase = "correct horse battery staple"

// withPassphrase makes keyd.yaml say where the passphrase is.
func withPassphrase(t testing.TB, s *keydtest.Setup, source string) {
	t.Helper()
	data, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	data = append([]byte("{\"passphrase\": "+source+","), bytes.TrimPrefix(data, []byte("{"))...)
	if err := os.WriteFile(s.Config, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// secretFile is a file that keyd's user may read.
func secretFile(t testing.TB, s *keydtest.Setup, name, text string) string {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := errors.Join(os.WriteFile(path, []byte(text+"\n"), 0o600), os.Chown(path, s.UID, s.UID)); err != nil {
		t.Fatal(err)
	}
	return path
}

// command runs keyd as keyd's user.
func command(s *keydtest.Setup, args ...string) *exec.Cmd {
	cmd := s.Command()
	cmd.Args = append([]string{cmd.Path}, args...)
	return cmd
}

func encrypt(t testing.TB, s *keydtest.Setup) string {
	t.Helper()
	out, err := command(s, "encrypt", "--config", s.Config).CombinedOutput()
	if err != nil {
		t.Fatalf("keyd encrypt: %v: %s", err, out)
	}
	return string(out)
}

// plainOnDisk reports the first file below dir in which a byte of the keys' private halves can be read.
func plainOnDisk(t testing.TB, dir string, keys []keydtest.Key) error {
	t.Helper()
	var secrets []memscan.Secret
	for _, k := range keys {
		block, _ := pem.Decode(keydtest.PEM(t, k.Private))
		more, err := memscan.PKCS8(k.Name, block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, more...)
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		finds, err := memscan.Bytes(data, secrets)
		if err == nil && len(finds) > 0 {
			err = fmt.Errorf("%s holds %s", path, finds[0])
		}
		if err == nil && bytes.Contains(data, []byte(pemHeader)) {
			err = fmt.Errorf("%s holds a plain key", path)
		}
		return err
	})
}

const pemHeader = "BEGIN PRIVATE KEY"

// signs asks keyd for one signature of each key that can give one at any time.
func signs(t testing.TB, s *keydtest.Setup, all []keydtest.Key) {
	t.Helper()
	p := dial(t, s)
	for _, k := range all {
		switch k.Purpose {
		case "tls-server":
			if code, why := p.ask(wire.OpSignTLS13Server, wire.SignBody(id(t, k), []byte(certificateVerify))); code != wire.OK {
				t.Errorf("%s: got %s %s", k.Name, code, why)
			}
		case "assertion":
			if code, why := p.ask(wire.OpSignAssertion, wire.SignBody(id(t, k), assertion(t, id(t, k)))); code != wire.OK {
				t.Errorf("%s: got %s %s", k.Name, code, why)
			}
		}
	}
}

func TestEncryptedKeysSignAndArePlainNowhere(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...)
	if err := plainOnDisk(t, s.Dir, all); err == nil {
		t.Fatal("the scanner does not find plain keys")
	}
	// Held open, the old files show what a disk would.
	var old []*os.File
	for _, k := range all {
		f, err := os.Open(filepath.Join(s.Dir, "keys", k.Name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		old = append(old, f)
	}
	withPassphrase(t, s, `{"file": "passphrase"}`)
	secretFile(t, s, "passphrase", passphrase)
	if said := s.Fails(t); !strings.Contains(said, "is not encrypted, though keyd.yaml has a passphrase") {
		t.Errorf("plain keys under a passphrase: got %q, want a refusal", said)
	}
	if said := encrypt(t, s); strings.Count(said, "encrypted  ") != len(all) {
		t.Errorf("got %q, want all keys", said)
	}
	if err := plainOnDisk(t, s.Dir, all); err != nil {
		t.Error(err)
	}
	for _, f := range old {
		if data, err := io.ReadAll(f); err != nil || len(bytes.Trim(data, "\x00")) > 0 {
			t.Errorf("%s is not overwritten: %v", f.Name(), err)
		}
	}
	if said := encrypt(t, s); said != "" {
		t.Errorf("encrypted again: %q", said)
	}
	p := s.Start(t)
	signs(t, s, all)
	if strings.Contains(p.Log(), passphrase) {
		t.Error("the log tells the passphrase")
	}
	if out, err := command(s, "encrypt", "--config", s.Config).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("another keyd runs")) {
		t.Errorf("encrypting under a running keyd: got %v %s", err, out)
	}
}

func TestAPlainKeyAmongEncryptedOnesIsRefused(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...)
	withPassphrase(t, s, `{"file": "passphrase"}`)
	secretFile(t, s, "passphrase", passphrase)
	encrypt(t, s)
	s.WriteKey(t, all[0])
	if said := s.Fails(t); !strings.Contains(said, `key "wiki": wiki.pem is not encrypted, and the folder is`) {
		t.Errorf("got %q, want a refusal", said)
	}
	encrypt(t, s)
	s.Start(t)
}

func TestKeydDoesNotStartWithAWrongPassphrase(t *testing.T) {
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, keys(t)...)
	withPassphrase(t, s, `{"file": "passphrase"}`)
	path := secretFile(t, s, "passphrase", passphrase)
	encrypt(t, s)
	secretFile(t, s, "passphrase", "Tr0ub4dor&3 Tr0ub4dor&3")
	out, err := s.Command().CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 || !bytes.Contains(out, []byte("wrong passphrase")) {
		t.Errorf("got %v %s, want exit code 3", err, out)
	}
	if bytes.Contains(out, []byte("Tr0ub4dor")) {
		t.Errorf("keyd tells what it tried: %s", out)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if said := s.Fails(t); !strings.Contains(said, "has mode 0640") {
		t.Errorf("got %q, want a refusal of a passphrase that others can read", said)
	}
}

func TestPassphraseFromSystemd(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...)
	credentials := filepath.Join(s.Dir, "credentials")
	if err := errors.Join(os.Mkdir(credentials, 0o500), os.Chown(credentials, s.UID, s.UID)); err != nil {
		t.Fatal(err)
	}
	secretFile(t, s, "credentials/keys", passphrase)
	withPassphrase(t, s, `{"credential": "keys"}`)
	environment := append(os.Environ(), "CREDENTIALS_DIRECTORY="+credentials)
	cmd := command(s, "encrypt", "--config", s.Config)
	cmd.Env = environment
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("keyd encrypt: %v: %s", err, out)
	}
	if said := s.Fails(t); !strings.Contains(said, "systemd gave no credentials") {
		t.Errorf("got %q, want a refusal without the folder", said)
	}
	cmd = s.Command()
	cmd.Env = environment
	s.StartCommand(t, cmd)
	signs(t, s, all)
	st, err := keyd.AskStatus(s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range st.Sandbox {
		if f.Name == "environment_empty" && !f.Holds {
			t.Errorf("the environment is not empty: %s", f.Detail)
		}
	}
}

func TestAnotherPassphraseOpensTheSameKeys(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...)
	withPassphrase(t, s, `{"file": "passphrase"}`)
	secretFile(t, s, "passphrase", passphrase)
	encrypt(t, s)
	before, err := os.ReadFile(filepath.Join(s.Dir, "keys", "wiki.pem"))
	if err != nil {
		t.Fatal(err)
	}
	const second = "a second passphrase"
	short, next := secretFile(t, s, "short", "short"), secretFile(t, s, "next", second)
	if out, err := command(s, "passphrase", "--config", s.Config, "--new-file", short).CombinedOutput(); err == nil {
		t.Errorf("a short passphrase is taken: %s", out)
	}
	if out, err := command(s, "passphrase", "--config", s.Config, "--old-file", short, "--new-file", next).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("wrong passphrase")) {
		t.Errorf("changed without the old passphrase: %v %s", err, out)
	}
	if out, err := command(s, "passphrase", "--config", s.Config, "--new-file", next).CombinedOutput(); err != nil {
		t.Fatalf("keyd passphrase: %v: %s", err, out)
	}
	if out, err := s.Command().CombinedOutput(); err == nil || !bytes.Contains(out, []byte("wrong passphrase")) {
		t.Errorf("the old passphrase opens: %v %s", err, out)
	}
	secretFile(t, s, "passphrase", second)
	s.Start(t)
	signs(t, s, all)
	if after, err := os.ReadFile(filepath.Join(s.Dir, "keys", "wiki.pem")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a key's file changed: %v", err)
	}
}

// Killed at any moment, encrypting loses no key, and is finished by running it again.
func TestKilledEncryptionLosesNoKey(t *testing.T) {
	const count = 30
	var all []keydtest.Key
	for n := range count {
		all = append(all, keydtest.Key{Name: fmt.Sprintf("key-%d", n), Purpose: "tls-server", Private: p256(t), Hosts: []string{"wiki.corp.example"}})
	}
	r := mathrand.New(mathrand.NewPCG(keydtest.Seed(t), 0))
	partly := 0
	for range 5 {
		s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...)
		withPassphrase(t, s, `{"file": "passphrase"}`)
		secretFile(t, s, "passphrase", passphrase)
		cmd := command(s, "encrypt", "--config", s.Config)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := r.IntN(count + 1) // keys encrypted
		keydtest.Eventually(t, "some keys are encrypted", func() error {
			if n := encryptedFiles(t, s); n < after && cmd.Process.Signal(syscall.Signal(0)) == nil {
				return fmt.Errorf("%d of %d", n, after)
			}
			return nil
		})
		cmd.Process.Kill()
		cmd.Wait()
		if n := encryptedFiles(t, s); n > 0 && n < count {
			partly++
		}
		encrypt(t, s)
		if err := plainOnDisk(t, s.Dir, all); err != nil {
			t.Error(err)
		}
		p := s.Start(t)
		signs(t, s, all)
		p.Kill()
	}
	if partly == 0 {
		t.Error("no run was killed half way: the test shows nothing")
	}
}

func encryptedFiles(t testing.TB, s *keydtest.Setup) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir, "keys", "key-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && bytes.HasPrefix(data, []byte("-----BEGIN SALLYPORT")) {
			n++
		}
	}
	return n
}

// A disk that is full while keys are encrypted loses none either.
func TestEncryptionOnAFullDiskLosesNoKey(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...)
	withPassphrase(t, s, `{"file": "passphrase"}`)
	secretFile(t, s, "passphrase", passphrase)
	dir := filepath.Join(s.Dir, "keys")
	var plain [][]byte
	for _, k := range all {
		plain = append(plain, keydtest.PEM(t, k.Private))
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for room := range 4 { // pages of 4 kB beside those of the plain keys
		size := fmt.Sprintf("size=%d,mode=0700,uid=%d", (len(all)+room)*4096, s.UID)
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
			t.Fatal(err)
		}
		for n, k := range all {
			path := filepath.Join(dir, k.Name+".pem")
			if err := errors.Join(os.WriteFile(path, plain[n], 0o600), os.Chown(path, s.UID, s.UID)); err != nil {
				t.Fatal(err)
			}
		}
		out, err := command(s, "encrypt", "--config", s.Config).CombinedOutput()
		if (err != nil) != (room < 2) { // the master key, and one key at a time
			t.Errorf("room for %d files: %v %s", room, err, out)
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=1m"); err != nil {
			t.Fatal(err)
		}
		encrypt(t, s)
		p := s.Start(t)
		signs(t, s, all)
		p.Kill()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatCannotBeEncryptedChangesNothing(t *testing.T) {
	all := keys(t)
	for name, spoil := range map[string]func(dir string) error{
		"a key that cannot be read": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "wiki.pem"), []byte("-----BEGIN PRIVATE KEY-----\n"), 0o600)
		},
		"a link":          func(dir string) error { return os.Symlink("wiki.pem", filepath.Join(dir, "link.pem")) },
		"somebody else's": func(dir string) error { return os.Chown(filepath.Join(dir, "wiki.pem"), keydtest.StrangerUID, -1) },
	} {
		t.Run(name, func(t *testing.T) {
			s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...)
			withPassphrase(t, s, `{"file": "passphrase"}`)
			secretFile(t, s, "passphrase", passphrase)
			dir := filepath.Join(s.Dir, "keys")
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			if out, err := command(s, "encrypt", "--config", s.Config).CombinedOutput(); err == nil {
				t.Errorf("encrypted: %s", out)
			}
			if _, err := os.Lstat(filepath.Join(dir, "master.pem")); err == nil {
				t.Error("there is a master key now")
			}
			if data, err := os.ReadFile(filepath.Join(dir, "says.pem")); err != nil || !bytes.Contains(data, []byte(pemHeader)) {
				t.Errorf("another key changed: %v", err)
			}
		})
	}
}

func TestInitEncrypts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(path, []byte(passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"init", "--domain", "corp.example", "--host", "wiki.corp.example", "--lenient"}
	run := func(args ...string) (string, error) {
		out, err := exec.Command(keydtest.Binary(), append(base, args...)...).CombinedOutput()
		return string(out), err
	}
	keysDir := filepath.Join(dir, "made")
	if out, err := run("--dir", keysDir, "--encrypt", "--passphrase-file", path); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(keysDir, "keys", "*.pem"))
	if err != nil || len(files) != 6 {
		t.Fatalf("got %v %v, want five keys and the master key", files, err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err != nil || !bytes.HasPrefix(data, []byte("-----BEGIN SALLYPORT ")) {
			t.Errorf("%s: %v, want an encrypted file", f, err)
		}
	}
	s := &keydtest.Setup{Dir: keysDir, Config: filepath.Join(keysDir, "keyd.yaml"), Socket: filepath.Join(keysDir, "run", "keyd.sock")}
	s.Start(t)
	for name, args := range map[string][]string{
		"a passphrase without --encrypt": {"--passphrase-file", path},
		"nobody to ask":                  {"--encrypt"},
		"a file that is not there":       {"--encrypt", "--passphrase-file", path + "2"},
	} {
		if out, err := run(append(args, "--dir", filepath.Join(dir, "other"))...); err == nil {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// terminal is a pseudo-terminal: what a person types and sees, and what the program has.
func terminal(t testing.TB) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// types answers each question with a line, and returns what the terminal showed.
func types(t testing.TB, person *os.File, cmd *exec.Cmd, lines ...string) (shown string) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { person.Close() })
	defer timer.Stop()
	b := make([]byte, 4096)
	for _, line := range lines {
		for asked := false; !asked; asked = strings.HasSuffix(shown, ": ") {
			n, err := person.Read(b)
			if err != nil {
				t.Fatalf("%v; it showed %q", err, shown)
			}
			shown += string(b[:n])
		}
		if _, err := person.WriteString(line); err != nil {
			t.Fatal(err)
		}
		shown += "\n"
	}
	return shown
}

func TestAPersonIsAskedForThePassphrase(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	person, program := terminal(t)
	on := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
		return cmd
	}
	cmd := on(command(s, "encrypt", "--config", s.Config))
	shown := types(t, person, cmd, passphrase+"\n", passphrase+"\r")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("keyd encrypt: %v; it showed %q", err, shown)
	}
	cmd = on(s.Command())
	shown += types(t, person, cmd, passphrase+"\n")
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	keydtest.Eventually(t, "keyd listens", func() error {
		_, err := keyd.AskStatus(s.Socket)
		return err
	})
	signs(t, s, all)
	if strings.Contains(shown, "horse") {
		t.Errorf("the terminal shows the passphrase: %q", shown)
	}
	settings, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil || settings.Lflag&unix.ECHO == 0 || settings.Lflag&unix.ICANON == 0 {
		t.Errorf("the terminal stays silent: %v", err)
	}
}
