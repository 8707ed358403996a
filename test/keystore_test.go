package test

import (
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/certs/keyd"
	"sallyport/test/harness"
	"sallyport/test/memscan"
)

// With SoftHSM2 holding the TLS and assertion keys, people sign in and reach their apps, and what was logged verifies.
func TestWholeGatewayWithKeysInAToken(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	secrets := secretsOf(t, s)
	labels := s.KeysInToken(t, harness.Apps)
	for _, want := range []string{"wiki.corp.test", "auth.corp.test", "assertion"} {
		if !slices.Contains(labels, want) {
			t.Fatalf("got keys %v in the token, want %s", labels, want)
		}
	}
	gw := s.Start(t)
	exercise(t, s)
	visit(t, s, 5)
	if status, body := s.SignIn(t, s.Browser(), "wiki", "otto", "staff"); status != http.StatusOK {
		t.Errorf("got %d: %s", status, body)
	}
	assertionsReach(t, s)
	nowhere(t, s, gw, secrets)
	if plain := s.PlainKeys(t); len(plain) != 2 { // of the notes
		t.Errorf("plain keys in %v, want those that sign notes", plain)
	}
	a := newAuditor(t, s)
	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	a.wants(0, filepath.Join(s.Dir, "audit"))
}

// With encrypted key files the gateway's memory holds no key, as ever, and neither does the disk.
func TestWholeGatewayWithEncryptedKeys(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	secrets := secretsOf(t, s)
	s.EncryptKeys(t)
	gw := s.Start(t)
	exercise(t, s)
	visit(t, s, 5)
	nowhere(t, s, gw, secrets)
	if plain := s.PlainKeys(t); len(plain) > 0 {
		t.Errorf("plain keys in %v", plain)
	}
	a := newAuditor(t, s)
	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	a.wants(0, filepath.Join(s.Dir, "audit"))
}

func secretsOf(t *testing.T, s *harness.Stand) []memscan.Secret {
	t.Helper()
	secrets, err := memscan.Files(filepath.Join(s.KeyFolder(), "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return secrets
}

// assertionsReach demands that the app saw an assertion, which only the assertion key signs.
func assertionsReach(t *testing.T, s *harness.Stand) {
	t.Helper()
	if !slices.ContainsFunc(s.Origin.Seen(), func(r harness.Seen) bool { return r.Header.Get("X-Sallyport-Assertion") != "" }) {
		t.Error("no assertion reached the app")
	}
}

// nowhere demands that no private number of the keys is in the gateway's memory, nor in a file that is not one of keyd's
// plain ones.
func nowhere(t *testing.T, s *harness.Stand, gw *harness.Process, secrets []memscan.Secret) {
	t.Helper()
	finds, err := memscan.Process(gw.Pid(), secrets)
	if err != nil {
		t.Fatal(err)
	}
	if len(finds) > 0 {
		t.Errorf("the gateway holds %s", finds[0])
	}
	plain := s.PlainKeys(t)
	err = filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || slices.Contains(plain, path) || strings.HasPrefix(path, filepath.Join(s.Dir, "bin")) {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		finds, err := memscan.Bytes(data, secrets)
		if len(finds) > 0 {
			t.Errorf("%s holds %s", path, finds[0])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A keyd without PKCS #11 says which one to run.
func TestKeydWithoutPKCS11NamesTheOther(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.KeysInToken(t, harness.Apps)
	out, err := exec.CommandContext(t.Context(), filepath.Join(harness.Binaries(t), "keyd"), "run", "--config", s.KeydConfig()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "keyd-pkcs11") {
		t.Errorf("got %v %s, want a refusal that names keyd-pkcs11", err, out)
	}
}

// A confined keyd makes keys in the token, and among encrypted files, and finds them again.
func TestConfinedKeydMakesKeysWhereTheyAre(t *testing.T) {
	for name, tt := range map[string]struct {
		where   string
		prepare func(s *harness.Stand)
	}{
		"token":           {`pkcs11: "assertion"`, func(s *harness.Stand) { s.KeysInToken(t, harness.Apps) }},
		"encrypted files": {"file: assertion.pem", func(s *harness.Stand) { s.EncryptKeys(t) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.New(t, harness.Apps, "")
			tt.prepare(s)
			s.LetRotate(t, tt.where)
			socket, p := s.StartKeyd(t)
			first := assertionKeys(t, socket)
			if _, err := keyd.AskRotate(socket, "assertion", true); err != nil {
				t.Fatal(err)
			}
			both := assertionKeys(t, socket)
			if len(first) != 1 || len(both) != 2 || !slices.Contains(both, first[0]) {
				t.Errorf("got %v and then %v, want one more key", first, both)
			}
			if err := p.Stop(); err != nil {
				t.Fatalf("keyd ended: %v: %s", err, p.Output())
			}
			socket, _ = s.StartKeyd(t)
			if again := assertionKeys(t, socket); !slices.Equal(both, again) {
				t.Errorf("got %v after a start, want %v", again, both)
			}
		})
	}
}

func assertionKeys(t *testing.T, socket string) (ids []string) {
	t.Helper()
	st, err := keyd.AskStatus(socket)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range st.Keys {
		if k.Name == "assertion" {
			ids = append(ids, k.ID)
		}
	}
	return ids
}
