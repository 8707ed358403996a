package verify

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/audit"
	"sallyport/audit/segment"
)

// Links that lead elsewhere are not followed, pipes are not waited for, and folders in the place of files are no files.
func TestNothingButFilesIsRead(t *testing.T) {
	s := newScene(t)
	outside := t.TempDir()
	store(t, outside, s.now)
	for what, change := range map[string]func(path string) error{
		"link out": func(path string) error {
			return os.Symlink(filepath.Join(outside, "decision", filepath.Base(path)), path)
		},
		"pipe":   func(path string) error { return unix.Mkfifo(path, 0o644) },
		"folder": func(path string) error { return os.Mkdir(path, 0o755) },
	} {
		for _, name := range []string{segment.Name("decision", 3), "decision/tree/checkpoint", "decision/tree/history", "decision/tail", "decision/tree/tile/0/000"} {
			dir := t.TempDir()
			store(t, dir, s.now)
			path := filepath.Join(dir, filepath.FromSlash(name))
			for _, old := range []string{path, path + ".zst"} {
				_ = os.Remove(old) // one of them is there
			}
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			report, err := Run(ctx, dir, Options{Trust: s.plain})
			cancel()
			if err != nil || report.Result == Pass && name != "decision/tail" {
				t.Errorf("a %s as %s: %v\n%s", what, name, err, printed(report))
			}
		}
	}
	dir := t.TempDir()
	store(t, dir, s.now)
	_ = os.RemoveAll(filepath.Join(dir, "decision"))
	if err := os.Symlink(filepath.Join(outside, "decision"), filepath.Join(dir, "decision")); err != nil {
		t.Fatal(err)
	}
	if report, err := Run(context.Background(), dir, Options{Trust: s.plain}); err == nil && report.Result == Pass {
		t.Errorf("a log that is a link out of the directory:\n%s", printed(report))
	}
}

// What is in the place of a folder, and is none, is a finding: it keeps nothing else from being looked at.
func TestOddFoldersAreFindings(t *testing.T) {
	s := newScene(t)
	small := s.then
	outside := t.TempDir()
	store(t, outside, small)
	for what, change := range map[string]func(path, name string) error{
		"link out":    func(path, name string) error { return os.Symlink(filepath.Join(outside, name), path) },
		"link up":     func(path, _ string) error { return os.Symlink("../../..", path) },
		"link within": func(path, _ string) error { return os.Rename(path+".tmp", path+".old") },
		"loop":        func(path, _ string) error { return os.Symlink(filepath.Base(path), path) },
		"file":        func(path, _ string) error { return os.WriteFile(path, nil, 0o644) },
		"pipe":        func(path, _ string) error { return unix.Mkfifo(path, 0o644) },
		"long name":   func(path, _ string) error { return os.Symlink(strings.Repeat("x", 300), path) },
	} {
		for _, name := range []string{"decision", "control", "decision/tree", "control/tree", "decision/tree/tile", "policies"} {
			dir, err := os.MkdirTemp(scratch(), "verify-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			store(t, dir, small)
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err = os.Rename(path, path+".tmp"); err == nil {
				err = change(path, name)
			}
			if err == nil && what == "link within" {
				err = os.Symlink(filepath.Base(path)+".old", path)
			}
			if err != nil {
				t.Fatal(err)
			}
			report, err := Run(context.Background(), dir, Options{Trust: s.plain, Rederive: new(oracle)})
			if err != nil || report.Result != Tampered {
				t.Errorf("a %s as %s: %v\n%s", what, name, err, printed(report))
			}
		}
	}
	for _, err := range []error{unix.EIO, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.EACCES, unix.EPERM, unix.EINTR} {
		if !isDisk(&os.PathError{Op: "open", Path: "x", Err: err}) {
			t.Errorf("%v is not the disk's", err)
		}
	}
	for _, err := range []error{unix.ELOOP, unix.ENOTDIR, unix.ENAMETOOLONG, unix.ENOENT, os.ErrInvalid} {
		if isDisk(&os.PathError{Op: "open", Path: "x", Err: err}) {
			t.Errorf("%v is the disk's", err)
		}
	}
}

// A log that is written, sealed and pruned while it is verified raises no alarm.
func TestLiveLogRaisesNoAlarm(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, rand.New(rand.NewPCG(7, 8)))
	a, err := audit.Open(audit.Config{Dir: dir, SegmentSize: 1 << 20, Origin: testOrigin, Seal: true}, audit.Options{Replica: "gw1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.KeepPolicy(digestOf(w.archive), w.archive); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() {
		done <- a.Keep(ctx, audit.Keeping{Signer: w.keys, Heartbeat: 20 * time.Millisecond, Checkpoint: 10 * time.Millisecond})
	}()
	var written atomic.Int64
	go func() {
		for ctx.Err() == nil {
			w.decideOne(a)
			w.control(a, 1)
			written.Add(2)
		}
		done <- nil
	}()
	for written.Load() < 200 {
		runtime.Gosched()
	}
	for range rounds(t, 8) {
		report, err := Run(context.Background(), dir, Options{Trust: w.keys.trust(t)})
		if err != nil || report.Result != Pass && report.Result != Gaps {
			t.Fatalf("%v\n%s", err, printed(report))
		}
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if report, err := Run(context.Background(), dir, Options{Trust: w.keys.trust(t)}); err != nil || report.Result != Pass {
		t.Errorf("after it was closed: %v\n%s", err, printed(report))
	}
}

// Whatever a file holds, Run comes to a result, and not to Pass for a log that is not the honest one.
func FuzzRun(f *testing.F) {
	w := newWorld(f, rand.New(rand.NewPCG(9, 9)))
	files := fuzzedFiles(f, w)
	names := []string{segment.Name("decision", 1), "decision/tree/checkpoint", "decision/tree/history", "control/tail", "decision/tree/tile/0/000.p/3", segment.SealedName("decision", 1)}
	for i, name := range names {
		f.Add(byte(i), files[name][:min(len(files[name]), 3*segment.Block)])
	}
	trust := w.keys.trust(f)
	f.Fuzz(func(t *testing.T, which byte, content []byte) {
		name := names[int(which)%len(names)]
		changed := maps.Clone(files)
		if strings.HasSuffix(name, segment.SealedSuffix) {
			delete(changed, names[0])
		}
		changed[name] = content
		report := verifyFiles(t, changed, Options{Trust: trust, Decode: true, Workers: 1})
		matters := int(which)%len(names) == 0
		if matters && report.Result == Pass && !bytes.Equal(content, files[name][:min(len(content), len(files[name]))]) {
			t.Errorf("another %s passes", name)
		}
	})
}

// fuzzedFiles is a small honest log.
func fuzzedFiles(t testing.TB, w *world) map[string][]byte {
	dir := t.TempDir()
	a, err := audit.Open(audit.Config{Dir: dir, SegmentSize: 1 << 20, Origin: testOrigin}, audit.Options{Replica: "gw1"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.decideOne(a)
		w.control(a, 1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Keep(ctx, audit.Keeping{Signer: w.keys}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		b, err := os.ReadFile(path)
		files[filepath.ToSlash(name)] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range []string{"decision", "control"} {
		name := segment.Name(log, 1)
		files[name] = files[name][:usedBytes(files[name])]
	}
	return files
}
