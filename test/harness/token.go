package harness

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
)

// KeyFolder is where keyd's key files are.
func (s *Stand) KeyFolder() string { return filepath.Join(s.Dir, "keys", "keys") }

// KeydConfig is the path of keyd.yaml.
func (s *Stand) KeydConfig() string { return s.keydConfig }

// EncryptKeys encrypts the key files, before the stand is started.
func (s *Stand) EncryptKeys(t testing.TB) {
	t.Helper()
	secret := filepath.Join(s.Dir, "passphrase")
	if err := os.WriteFile(secret, []byte("a passphrase of the test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.extendKeyd(t, fmt.Sprintf("passphrase: { file: %q }\n", secret))
	if out, err := exec.Command(filepath.Join(s.bin, "keyd"), "encrypt", "--config", s.keydConfig).CombinedOutput(); err != nil {
		t.Fatalf("keyd encrypt: %v: %s", err, out)
	}
}

// KeysInToken moves every ECDSA key into a token of SoftHSM2 and has the stand use keyd-pkcs11, before it is started. The
// keys that sign notes stay files: PKCS #11 has no Ed25519.
func (s *Stand) KeysInToken(t testing.TB, apps string) (labels []string) {
	t.Helper()
	folder := filepath.Join(s.Dir, "hsm")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	hsm := keydtest.SoftHSM(t, folder, os.Geteuid())
	config, err := os.ReadFile(s.keydConfig)
	if err != nil {
		t.Fatal(err)
	}
	text := string(config)
	files, err := filepath.Glob(filepath.Join(s.KeyFolder(), "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for n, file := range files {
		name := filepath.Base(file)
		if name == "checkpoint.pem" || name == "manifest.pem" {
			continue
		}
		label := strings.TrimSuffix(name, ".pem")
		hsm.Import(t, file, label, fmt.Sprintf("%04x", n+1))
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		for _, quoted := range []string{fmt.Sprintf("file: %q", name), "file: " + name} {
			text = strings.ReplaceAll(text, quoted, fmt.Sprintf("pkcs11: %q", label))
		}
		labels = append(labels, label)
	}
	if err := os.WriteFile(s.keydConfig, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s.extendKeyd(t, fmt.Sprintf("pkcs11: { module: %q, token: %q, pin: { file: %q }, environment: { SOFTHSM2_CONF: %q }, folders: [%q] }\n",
		hsm.Module, hsm.Token, hsm.PINFile, hsm.Conf, hsm.Tokens))
	s.useKeydPKCS11(t)
	s.Write(t, apps)
	return labels
}

// LetRotate lets a key of keyd's rotate, by the first line that names where it is.
func (s *Stand) LetRotate(t testing.TB, where string) {
	t.Helper()
	config, err := os.ReadFile(s.keydConfig)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(config), "    "+where+"\n", "    "+where+"\n    rotate: { announce: 5s }\n", 1)
	if err := os.WriteFile(s.keydConfig, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// StartKeyd runs the stand's keyd without a gateway, and returns its socket and process once it answers.
func (s *Stand) StartKeyd(t testing.TB) (socket string, p *Process) {
	t.Helper()
	c, err := keyd.LoadConfig(s.keydConfig)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(s.bin, "keyd"), "run", "--config", s.keydConfig)
	p = s.StartQuietly(t, cmd)
	Eventually(t, 2*time.Minute, "keyd to answer", func() bool {
		select {
		case err := <-p.exited:
			p.exited <- err
			t.Fatalf("keyd ended: %v\n%s", err, p.Output())
		default:
		}
		_, err := keyd.AskStatus(c.Listen)
		return err == nil
	})
	return c.Listen, p
}

func (s *Stand) extendKeyd(t testing.TB, lines string) {
	t.Helper()
	config, err := os.ReadFile(s.keydConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.keydConfig, append(config, lines...), 0o644); err != nil {
		t.Fatal(err)
	}
}

// useKeydPKCS11 builds keyd with cgo, and puts it where the stand's keyd was.
func (s *Stand) useKeydPKCS11(t testing.TB) {
	t.Helper()
	bin := filepath.Join(s.Dir, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.Symlink(filepath.Join(s.bin, "sallyport"), filepath.Join(bin, "sallyport"))); err != nil {
		t.Fatal(err)
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-tags", "pkcs11", "-o", filepath.Join(bin, "keyd"), "./cmd/keyd")
	build.Dir, build.Env = strings.TrimSpace(string(root)), append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building keyd-pkcs11: %v\n%s", err, out)
	}
	s.bin = bin
}

// PlainKeys names the files of the installation in which a private key can be read as PEM.
func (s *Stand) PlainKeys(t testing.TB) (list []string) {
	t.Helper()
	err := filepath.WalkDir(s.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if block, _ := pem.Decode(data); err == nil && block != nil && bytes.HasPrefix(data, []byte("-----BEGIN PRIVATE KEY")) {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
