package keyd_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/certs/keyd/keydtest"
)

func TestLooseKeyFilesAreRefusedByName(t *testing.T) {
	for _, tt := range []struct {
		name    string
		spoil   func(t *testing.T, s *keydtest.Setup, file string)
		refusal string
	}{
		{"group can read", func(t *testing.T, _ *keydtest.Setup, f string) { chmod(t, f, 0o640) }, "wiki.pem has mode 0640"},
		{"others can read", func(t *testing.T, _ *keydtest.Setup, f string) { chmod(t, f, 0o604) }, "wiki.pem has mode 0604"},
		{"foreign owner", func(t *testing.T, _ *keydtest.Setup, f string) {
			chown(t, f, 0)
			chmod(t, f, 0o600)
		}, "wiki.pem"},
		{"symlink out of the folder", func(t *testing.T, s *keydtest.Setup, f string) {
			out := filepath.Join(s.Dir, "state", "wiki.pem")
			if err := os.Rename(f, out); err != nil {
				t.Fatal(err)
			}
			symlink(t, out, f)
		}, "wiki.pem: path escapes"},
		{"missing", func(t *testing.T, _ *keydtest.Setup, f string) { os.Remove(f) }, "wiki.pem: no such file"},
		{"a pipe", func(t *testing.T, s *keydtest.Setup, f string) {
			os.Remove(f)
			if err := syscall.Mkfifo(f, 0o600); err != nil {
				t.Fatal(err)
			}
			chown(t, f, s.UID)
		}, "wiki.pem is not a regular file"},
		{"not PEM", func(t *testing.T, s *keydtest.Setup, f string) { os.WriteFile(f, []byte("hello"), 0o600) }, "wiki.pem is not one PEM block"},
		{"folder that others can write", func(t *testing.T, _ *keydtest.Setup, f string) { chmod(t, filepath.Dir(f), 0o702) }, "has mode 0702"},
		{"folder of somebody else", func(t *testing.T, _ *keydtest.Setup, f string) {
			chown(t, filepath.Dir(f), keydtest.StrangerUID)
			chmod(t, filepath.Dir(f), 0o755)
		}, "belongs to uid 61003"},
		{"used twice", func(t *testing.T, s *keydtest.Setup, f string) {
			data, _ := os.ReadFile(f)
			os.WriteFile(filepath.Join(filepath.Dir(f), "says.pem"), data, 0o600)
		}, `key "says": is the same key as "wiki"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := keys(t)
			s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, all[0], all[3])
			tt.spoil(t, s, filepath.Join(s.Dir, "keys", "wiki.pem"))
			if said := s.Fails(t); !strings.Contains(said, tt.refusal) {
				t.Errorf("got %q, want %q", said, tt.refusal)
			}
		})
	}
}
