package sqlite_test

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
	"sallyport/authn/session/sqlite"
)

// TestMain lets the test binary be the other process of a test: roles are what it does then.
func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv("SALLYPORT_TEST_ROLE")]; ok {
		role(os.Getenv("SALLYPORT_TEST_PATH"))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestStoreKeepsItsContract(t *testing.T) {
	sessiontest.Run(t, func(t testing.TB) func() session.Store {
		path := filepath.Join(t.TempDir(), "state.db")
		return func() session.Store { return open(t, path) }
	})
}

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func keeper(t testing.TB, s session.Store) *session.Keeper {
	t.Helper()
	k, err := session.NewKeeper(session.Config{Idle: 8 * time.Hour, Absolute: 24 * time.Hour}, s, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signIn(t testing.TB, k *session.Keeper) (string, *session.Session) {
	t.Helper()
	id, err := authn.New(authn.Identity{Kind: authn.User, Provider: "corp", Subject: "ada", Groups: []string{"staff"}})
	if err != nil {
		t.Fatal(err)
	}
	handle, s, err := k.SignIn(t.Context(), session.NewSession{Identity: id, Secrets: session.Secrets{RefreshToken: "very-secret-refresh-token"}})
	if err != nil {
		t.Fatal(err)
	}
	return handle, s
}

func TestSessionsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	k := keeper(t, s)
	handle, want := signIn(t, k)
	sealed := k.Seal("flow", []byte("x"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	k = keeper(t, open(t, path))
	if got, err := k.SignedIn(t.Context(), handle); err != nil || got.ID != want.ID {
		t.Errorf("after a restart SignedIn = %v, %v", got, err)
	}
	if _, err := k.Open("flow", sealed); err != nil {
		t.Errorf("what was sealed before a restart: %v", err)
	}
}

func TestFilesHoldNoHandleAndNoToken(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, open(t, filepath.Join(dir, "state.db")))
	handle, s := signIn(t, k)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, %v; want the database, its WAL and its shared memory", files, err)
	}
	var all []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(f)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", f, info.Mode(), err)
		}
		all = append(all, data...)
	}
	if !bytes.Contains(all, []byte(s.ID)) {
		t.Error("the files do not even hold the public id: this test looks in the wrong place")
	}
	for _, secret := range []string{handle, handle[:20], "very-secret-refresh-token"} {
		if bytes.Contains(all, []byte(secret)) {
			t.Errorf("the files hold %q", secret)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	made := func(name, statements string) string {
		path := write(name, "", 0o600)
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(statements); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, path, says string
		is               error
	}{
		{name: "a missing folder", path: filepath.Join(dir, "none", "state.db"), says: "no such file or directory"},
		{name: "a path through a file", path: filepath.Join(write("file", "", 0o600), "state.db"), says: "not a directory"},
		{name: "a folder", path: dir, says: "is a directory"},
		{name: "a file that others can read", path: write("loose.db", "", 0o644), says: "chmod 600"},
		{name: "something else", path: write("text.db", strings.Repeat("hello world ", 100), 0o600), says: "not a database"},
		{name: "another program's database", path: made("foreign.db", `CREATE TABLE customer (id INTEGER)`), is: sqlite.ErrForeign},
		{name: "another program's empty database", path: made("marked.db", `PRAGMA application_id = 7`), is: sqlite.ErrForeign},
		{name: "a newer version's", path: made("newer.db", `PRAGMA application_id = 0x534c5950; PRAGMA user_version = 9`), is: sqlite.ErrNewer},
	} {
		before, _ := os.ReadFile(c.path)
		s, err := sqlite.Open(t.Context(), c.path)
		if err == nil {
			s.Close()
			t.Errorf("%s was opened", c.name)
			continue
		}
		if !strings.Contains(err.Error(), c.says) || (c.is != nil && !errors.Is(err, c.is)) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v; want %q, the path and %v", c.name, err, c.says, c.is)
		}
		if after, _ := os.ReadFile(c.path); !bytes.Equal(before, after) {
			t.Errorf("%s was changed by the refusal", c.name)
		}
	}
}

func TestPathsWithSpecialCharacters(t *testing.T) {
	for _, name := range []string{"a b.db", "what?.db", "50%20.db", "#1.db", "ümlaut.db", "x&_pragma=query_only(1).db"} {
		path := filepath.Join(t.TempDir(), name)
		handle, _ := signIn(t, keeper(t, open(t, path)))
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := keeper(t, open(t, path)).SignedIn(t.Context(), handle); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestManyOpenANewFileAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := sqlite.Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestReadOnlyFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	open(t, path)
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "open", path)
	if os.Getuid() == 0 { // who may write everywhere: be somebody else
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		cmd.Path = filepath.Join(dir, "copy.test")
		copyFile(t, os.Args[0], cmd.Path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "permission denied") || !strings.Contains(string(out), path) {
		t.Errorf("opening a read-only file says %q, %v", out, err)
	}
}

const nobody = 65534

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func child(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST_ROLE="+role, "SALLYPORT_TEST_PATH="+path)
	return cmd
}

func TestBackupIsACompleteSecretCopy(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "state.db"))
	k := keeper(t, s)
	handle, _ := signIn(t, k)
	dest := filepath.Join(dir, "back up?.db")
	if err := s.Backup(t.Context(), dest); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dest); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup has mode %v, %v; want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	later, _ := signIn(t, k)
	before, _ := os.ReadFile(dest)
	if err := s.Backup(t.Context(), dest); err == nil {
		t.Error("a backup was overwritten")
	}
	if after, _ := os.ReadFile(dest); !bytes.Equal(before, after) {
		t.Error("a refused backup changed the file that was there")
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "none", "b.db")); err == nil {
		t.Error("a backup to a missing folder succeeded")
	}

	restored := keeper(t, open(t, dest))
	if _, err := restored.SignedIn(t.Context(), handle); err != nil {
		t.Errorf("a session of before the backup: %v", err)
	}
	if _, err := restored.SignedIn(t.Context(), later); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("a session of after the backup: %v", err)
	}
	if _, err := restored.Open("flow", k.Seal("flow", []byte("x"))); err != nil {
		t.Errorf("the sealing key is not in the backup: %v", err)
	}
}
