package config

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// watched is a folder with a watch on it.
type watched struct {
	t     *testing.T
	dir   string
	calls chan struct{}
}

// watchFolder prepares a folder, and watches the files, which are relative to it.
func watchFolder(t *testing.T, prepare func(w *watched), files ...string) *watched {
	t.Helper()
	w := &watched{t: t, dir: t.TempDir(), calls: make(chan struct{}, 100)}
	prepare(w)
	for i := range files {
		files[i] = filepath.Join(w.dir, files[i])
	}
	watch, err := NewWatch(files)
	w.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { watch.Run(ctx, func() { w.calls <- struct{}{} }) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		w.must(watch.Close())
		goleak.VerifyNone(t)
	})
	return w
}

func (w *watched) path(name string) string { return filepath.Join(w.dir, name) }

func (w *watched) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) write(name, text string) {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.path(name)), 0o700))
	w.must(os.WriteFile(w.path(name), []byte(text), 0o600))
}

// expect waits for one call of changed, and for no second one that an earlier event could have caused.
func (w *watched) expect() {
	w.t.Helper()
	select {
	case <-w.calls:
	case <-time.After(time.Minute):
		w.t.Fatal("the change was not noticed in a minute")
	}
}

func TestAFileReplacedByRenameIsAChange(t *testing.T) {
	w := watchFolder(t, func(w *watched) { w.write("a.yaml", "1") }, "a.yaml")
	for _, text := range []string{"2", "3"} { // the second rename replaces the file that came by the first
		w.write("a.yaml.new", text)
		w.must(os.Rename(w.path("a.yaml.new"), w.path("a.yaml")))
		w.expect()
	}
}

func TestManyWritesAreOneChangeAndOtherFilesNone(t *testing.T) {
	w := watchFolder(t, func(w *watched) { w.write("a.yaml", "1") }, "a.yaml")
	w.write("other", "x")
	for range 20 {
		w.write("a.yaml", "12")
	}
	w.expect()
	w.write("a.yaml", "123")
	w.expect()
	if n := len(w.calls); n != 0 {
		t.Errorf("%d calls too many", n)
	}
}

func TestAFileThatAppearsInAFolderThatAppearsIsAChange(t *testing.T) {
	w := watchFolder(t, func(w *watched) {}, "later/secrets/key")
	w.must(os.MkdirAll(w.path("later/secrets"), 0o700))
	w.write("later/secrets/key", "k")
	w.expect()
	w.must(os.Remove(w.path("later/secrets/key")))
	w.expect()
}

func TestTheMatchesOfAPatternAreWatched(t *testing.T) {
	w := watchFolder(t, func(w *watched) { w.write("certs/a/x.pem", "1") }, "certs/*/*.pem")
	w.write("certs/a/y.pem", "1")
	w.expect()
	w.write("certs/b/x.pem", "1")
	w.expect()
	w.write("certs/a/x.pem", "12")
	w.expect()
}

// Kubernetes writes a volume's files into a new folder and moves one symbolic link, ..data, to it.
func TestASymbolicLinkThatMovesIsAChange(t *testing.T) {
	w := watchFolder(t, func(w *watched) {
		w.write("..2026_1/a.yaml", "same")
		w.must(os.Symlink("..2026_1", w.path("..data")))
		w.must(os.Symlink("..data/a.yaml", w.path("a.yaml")))
	}, "a.yaml")
	for _, folder := range []string{"..2026_2", "..2026_3"} {
		w.write(folder+"/a.yaml", "same")
		w.must(os.Symlink(folder, w.path("..tmp")))
		w.must(os.Rename(w.path("..tmp"), w.path("..data")))
		w.expect()
	}
	w.write("..2026_3/a.yaml", "changed in place")
	w.expect()
}

func TestALinkedFolderThatMovesIsAChange(t *testing.T) {
	w := watchFolder(t, func(w *watched) {
		w.write("releases/1/etc/a.yaml", "1")
		w.must(os.Symlink("releases/1", w.path("current")))
	}, "current/etc/a.yaml")
	w.write("releases/2/etc/a.yaml", "2")
	w.must(os.Symlink("releases/2", w.path("next")))
	w.must(os.Rename(w.path("next"), w.path("current")))
	w.expect()
}
