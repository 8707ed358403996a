package test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/audit"
	"sallyport/gateway/boot"
	"sallyport/test/harness"
)

// faultFile, beside the configuration, says what is wrong with the disk of a gateway started by startFaulty: one of the
// faults below. Without it the disk is sound.
const faultFile = "fault"

const (
	diskFull    = "full"    // no write or growth succeeds
	diskFailing = "failing" // syncs answer an error
	diskHanging = "hanging" // syncs do not return until the fault is gone
)

// startFaulty runs a gateway whose audit directory is on a disk that breaks on demand.
func startFaulty(t testing.TB, s *harness.Stand) *harness.Process {
	t.Helper()
	return startMutant(t, s, "on a faulty disk")
}

func faultyDisk(config string) boot.Options {
	dir := filepath.Dir(config)
	files, err := newFaultyFiles(filepath.Join(dir, "audit"), filepath.Join(dir, faultFile))
	if err != nil {
		panic(err)
	}
	return boot.Options{AuditFiles: files}
}

func breakDisk(t testing.TB, s *harness.Stand, fault string) {
	t.Helper()
	next := filepath.Join(s.Dir, faultFile+".next")
	if err := os.WriteFile(next, []byte(fault), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(s.Dir, faultFile)); err != nil {
		t.Fatal(err)
	}
}

func healDisk(t testing.TB, s *harness.Stand) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.Dir, faultFile)); err != nil {
		t.Fatal(err)
	}
}

// faultyFiles is a real directory whose disk breaks when a file says so.
type faultyFiles struct {
	root  *os.Root
	fault string
}

func newFaultyFiles(dir, fault string) (*faultyFiles, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &faultyFiles{root, fault}, nil
}

// present is the fault at this moment, or empty.
func (d *faultyFiles) present() string {
	text, err := os.ReadFile(d.fault)
	if err != nil {
		return ""
	}
	return string(text)
}

func (d *faultyFiles) grow() error {
	if d.present() == diskFull {
		return syscall.ENOSPC
	}
	return nil
}

func (d *faultyFiles) sync() error {
	if d.present() == diskFailing {
		return syscall.EIO
	}
	for d.present() == diskHanging {
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func (d *faultyFiles) MkdirAll(name string) error { return d.root.MkdirAll(name, 0o750) }
func (d *faultyFiles) Rename(from, to string) error {
	return errors.Join(d.grow(), d.root.Rename(from, to))
}
func (d *faultyFiles) Remove(name string) error  { return d.root.Remove(name) }
func (d *faultyFiles) SyncDir(name string) error { return d.sync() }
func (d *faultyFiles) Close() error              { return d.root.Close() }

func (d *faultyFiles) OpenFile(name string, flag int) (audit.File, error) {
	f, err := d.root.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return faultyFile{f, d}, nil
}

func (d *faultyFiles) ReadDir(name string) ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), name)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, err
}

func (d *faultyFiles) Lock(name string) (io.Closer, error) {
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) != nil {
		return nil, errors.Join(audit.ErrLocked, f.Close())
	}
	return f, nil
}

func (d *faultyFiles) Locked(string) (bool, error) { return true, nil }

type faultyFile struct {
	*os.File
	disk *faultyFiles
}

func (f faultyFile) WriteAt(p []byte, at int64) (int, error) {
	if err := f.disk.grow(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, at)
}

func (f faultyFile) Truncate(size int64) error {
	if err := f.disk.grow(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f faultyFile) Sync() error {
	if err := f.disk.sync(); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f faultyFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
