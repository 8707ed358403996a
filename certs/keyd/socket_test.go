package keyd_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/certs/keyd/keydtest"
)

// KEY-08: who may connect, and what may be at the socket's path.
func TestKEY08PeerCredentials(t *testing.T) {
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys(t)...)
	p := s.Start(t)
	for uid, want := range map[int]string{
		keydtest.GatewayUID: "status ok\nsign_tls13_server unknown_key\n",
		keydtest.KeydUID:    "status ok\nsign_tls13_server forbidden\n",
		0:                   "status ok\nsign_tls13_server forbidden\n",
	} {
		cmd := keydtest.As(t, uid, "ask", s.Socket)
		if uid == keydtest.KeydUID {
			cmd.SysProcAttr.Credential.Groups = []uint32{keydtest.GatewayUID}
		}
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("uid %d: got %q %v, want %q", uid, out, err, want)
		}
	}
	// The folder keeps strangers out; where it does not, the uid does.
	if out, err := keydtest.As(t, keydtest.StrangerUID, "ask", s.Socket).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("permission denied")) {
		t.Errorf("a stranger: got %q %v, want permission denied", out, err)
	}
	if err := errors.Join(os.Chmod(filepath.Dir(s.Socket), 0o755), os.Chmod(s.Socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	if out, err := keydtest.As(t, keydtest.StrangerUID, "ask", s.Socket).Output(); err == nil {
		t.Errorf("a stranger who can reach the socket: got %q, want no answer", out)
	}
	if !strings.Contains(p.Log(), "peer_uid=61003") {
		t.Errorf("the stranger is not in the log: %s", p.Log())
	}
}

func TestKEY08PathIsOurs(t *testing.T) {
	for _, tt := range []struct {
		name    string
		spoil   func(t *testing.T, s *keydtest.Setup)
		refusal string
	}{
		{"somebody's socket", func(t *testing.T, s *keydtest.Setup) {
			run := filepath.Dir(s.Socket)
			chown(t, run, keydtest.StrangerUID)
			waitListening(t, keydtest.As(t, keydtest.StrangerUID, "squat", s.Socket))
			chown(t, run, keydtest.KeydUID)
		}, "belongs to uid 61003"},
		{"our own socket, in use", func(t *testing.T, s *keydtest.Setup) {
			waitListening(t, keydtest.As(t, keydtest.KeydUID, "squat", s.Socket))
		}, "another process is listening"},
		{"a second keyd", func(t *testing.T, s *keydtest.Setup) { s.Start(t) }, "another keyd runs"},
		{"a file", func(t *testing.T, s *keydtest.Setup) { write(t, s.Socket) }, "no socket"},
		{"a symlink", func(t *testing.T, s *keydtest.Setup) { symlink(t, "/nowhere", s.Socket) }, "no socket"},
		{"a folder that is a symlink", func(t *testing.T, s *keydtest.Setup) {
			run := filepath.Dir(s.Socket)
			if err := os.Rename(run, run+".real"); err != nil {
				t.Fatal(err)
			}
			symlink(t, run+".real", run)
		}, "through a symlink"},
		{"a folder that the group can write", func(t *testing.T, s *keydtest.Setup) { chmod(t, filepath.Dir(s.Socket), 0o770) }, "0770"},
		{"a folder that all can enter", func(t *testing.T, s *keydtest.Setup) { chmod(t, filepath.Dir(s.Socket), 0o755) }, "0755"},
		{"somebody's folder", func(t *testing.T, s *keydtest.Setup) { chown(t, filepath.Dir(s.Socket), keydtest.StrangerUID) }, "belongs to uid 61003"},
		{"a folder in somebody's folder", func(t *testing.T, s *keydtest.Setup) { chown(t, s.Dir, keydtest.StrangerUID) }, "belongs to uid 61003"},
		{"a folder in a folder that all can write", func(t *testing.T, s *keydtest.Setup) { chmod(t, s.Dir, 0o777) }, "0777"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys(t)[:1]...)
			tt.spoil(t, s)
			if said := s.Fails(t); !strings.Contains(said, tt.refusal) {
				t.Errorf("got %q, want %q", said, tt.refusal)
			}
		})
	}
	t.Run("a socket left by a killed keyd", func(t *testing.T) {
		s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys(t)[:1]...)
		s.Start(t).Kill()
		if _, err := os.Lstat(s.Socket); err != nil {
			t.Fatalf("want a stale socket: %v", err)
		}
		s.Start(t)
		dial(t, s)
	})
}

func chown(t *testing.T, path string, uid int) {
	t.Helper()
	if err := os.Chown(path, uid, uid); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
