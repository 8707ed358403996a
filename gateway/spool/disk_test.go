package spool

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sallyport/gateway/units"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig(dir string) Config {
	return Config{Dir: dir, Memory: 64 << 20, PerBody: 256 << 10, Disk: 16 << 30, BodyDisk: 4 << 30}
}

func onDisk(t testing.TB, cfg Config) *Spooler {
	t.Helper()
	s, err := New(cfg)
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

// openFiles counts the descriptors of this process that lead to a place below dir, removed or not.
func openFiles(t testing.TB, dir string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			n++
		}
	}
	return n
}

func TestFilesHaveNoNameAndNoOtherReader(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := diskFolder{root}
	defer d.Close()
	unnamed, err := d.Create()
	if err != nil {
		t.Fatal(err)
	}
	named, err := d.createNamed()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{unnamed.(diskFile).File, named} {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if mode, links := info.Mode(), info.Sys().(*syscall.Stat_t).Nlink; mode != 0o600 || links != 0 {
			t.Errorf("mode %v, %d names", mode, links)
		}
		f.Close()
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
}

func TestFolderThatIsOfNoUseIsAnError(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, unusable := range []string{filepath.Join(dir, "missing"), plain, "/proc"} {
		if _, err := New(testConfig(unusable)); err == nil {
			t.Errorf("%s was accepted", unusable)
		}
	}
	cfg := testConfig("/missing")
	cfg.Disk = 0
	onDisk(t, cfg) // no files, no folder
	for _, wrong := range []Config{{Memory: 1, PerBody: 2}, {Disk: 1}} {
		if _, err := New(wrong); err == nil {
			t.Errorf("%+v was accepted", wrong)
		}
	}
}

// Bodies outlive a reload that moves the folder, and a wrong one changes nothing.
func TestReloadLeavesBodiesAlone(t *testing.T) {
	dir := t.TempDir()
	s, text := onDisk(t, testConfig(dir)), contents(1<<20)
	b, err := s.Request(t.Context(), bytes.NewReader(text), -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Configure(testConfig("/missing")); err == nil {
		t.Fatal("a missing folder was accepted")
	}
	next := testConfig(t.TempDir())
	next.Memory, next.PerBody = 64<<10, 64<<10
	if err := s.Configure(next); err != nil {
		t.Fatal(err)
	}
	if got, err := b.bytes(); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := s.Request(t.Context(), bytes.NewReader(text), -1, -1); !errors.Is(err, ErrFull) {
		t.Errorf("with less memory than is used: %v", err)
	}
	b.Close()
	b, err = s.Request(t.Context(), bytes.NewReader(text), -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, err := b.bytes(); err != nil || !bytes.Equal(got, text) {
		t.Errorf("in the new folder: %d bytes, %v", len(got), err)
	}
	if openFiles(t, dir) != 0 {
		t.Error("the old folder is still in use")
	}
}

func (b *Body) bytes() ([]byte, error) {
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// tinyDisk is a Spooler on a file system of a megabyte, or on files that together refuse more where this root may not
// mount one.
func tinyDisk(t *testing.T) *Spooler {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")
	mounted := err == nil
	if !mounted && (os.Getuid() != 0 || !errors.Is(err, unix.EPERM)) {
		t.Fatalf("this test mounts a small file system: it runs as root: %v", err)
	}
	if mounted {
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Errorf("something still uses the disk: %v", err)
			}
		})
	}
	s, err := New(testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	if !mounted {
		set := *s.settings.Load()
		set.folder = &crampedFolder{folder: set.folder}
		set.folder.(*crampedFolder).room.Store(1 << 20)
		s.settings.Store(&set)
	}
	return s
}

// crampedFolder has room for so many bytes in all of its files, and none of it comes back.
type crampedFolder struct {
	folder
	room atomic.Int64
}

func (c *crampedFolder) Create() (file, error) {
	f, err := c.folder.Create()
	return crampedFile{f, c}, err
}

type crampedFile struct {
	file
	in *crampedFolder
}

func (f crampedFile) WriteAt(p []byte, offset int64) (int, error) {
	if f.in.room.Add(-int64(len(p))) < 0 {
		return 0, unix.ENOSPC
	}
	return f.file.WriteAt(p, offset)
}

// With a full disk answers wait for their clients and lose nothing, and requests are refused.
func TestDiskFull(t *testing.T) {
	s := tinyDisk(t)
	text := contents(8 << 20)
	var readers []*Reader
	for range 3 {
		readers = append(readers, s.Response(t.Context(), io.NopCloser(bytes.NewReader(text))))
	}
	within(t, func() bool { return s.Stats().Stalled == 3 }, "three answers are stalled")
	if _, err := s.Request(t.Context(), bytes.NewReader(text), int64(len(text)), -1); !errors.Is(err, ErrFull) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a request got %v", err)
	}
	for i, r := range readers {
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) {
			t.Errorf("answer %d: %d bytes, %v", i, len(got), err)
		}
		r.Close()
	}
	if got := s.Stats(); got.Failures == 0 || got.Disk != 0 || got.Memory != 0 {
		t.Errorf("got %+v", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// within polls for something that takes a moment.
func within(t testing.TB, holds func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

// DOS-19: what a reader has taken is given back to the disk, so that a long answer needs little of it.
func TestSpaceIsGivenBackWhileTheClientReads(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.BodyDisk = 8 << 20
	s := onDisk(t, cfg)
	size := 64 << 20
	r := s.Response(t.Context(), &endlessZeros{left: size})
	defer r.Close()
	within(t, func() bool { return s.Stats().Stalled == 1 }, "the answer is at its limit")
	f := r.extent.file.(diskFile)
	read, most := 0, int64(0)
	for p := make([]byte, 1<<20); ; {
		n, err := r.Read(p)
		read += n
		if info, statErr := f.Stat(); statErr == nil {
			most = max(most, info.Sys().(*syscall.Stat_t).Blocks*512)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if read != size {
		t.Errorf("read %d bytes of %d", read, size)
	}
	if most > int64(cfg.BodyDisk)+1<<20 {
		t.Errorf("the file took %d bytes of the disk, %d are allowed", most, cfg.BodyDisk)
	}
}

// DOS-19: clients that go, or are cut off, leave nothing behind at any point.
func TestNothingIsLeftOfClientsThatGo(t *testing.T) {
	dir := t.TempDir()
	s := onDisk(t, testConfig(dir))
	base := openFiles(t, dir)
	for i := range 60 {
		r := s.Response(t.Context(), &endlessZeros{left: 2 << 20})
		io.CopyN(io.Discard, r, int64(i)*40<<10)
		r.Close()
	}
	within(t, func() bool { return s.Stats() == Stats{} }, "everything is given back")
	if n := openFiles(t, dir); n != base {
		t.Errorf("%d files are open, %d were", n, base)
	}
}

// Five hundred clients that do not read hold no app, and get every byte in the end.
func TestFiveHundredSlowClients(t *testing.T) { fiveHundred(t, 512<<10) }

// BenchmarkFiveHundred is the same with 10 MiB each: how long until all apps are free.
func BenchmarkFiveHundred(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(fiveHundred(b, 10<<20).Seconds(), "s-to-free")
	}
}

func fiveHundred(t testing.TB, size int) time.Duration {
	cfg := testConfig("/var/tmp")
	s := onDisk(t, cfg)
	text := contents(size)
	want := crc32.ChecksumIEEE(text)
	var readers []*Reader
	start := time.Now()
	for range 500 {
		readers = append(readers, s.Response(t.Context(), io.NopCloser(bytes.NewReader(text))))
	}
	most := int64(0)
	for _, r := range readers {
		within(t, func() bool { most = max(most, s.Stats().Memory); return r.drained() }, "an app is free")
	}
	free := time.Since(start)
	if most > int64(cfg.Memory) {
		t.Errorf("%v of memory were used, %v are allowed", units.Bytes(most), cfg.Memory)
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(readers))
	for i, r := range readers {
		wg.Go(func() {
			defer r.Close()
			sum := crc32.NewIEEE()
			if n, err := r.WriteTo(sum); err != nil || n != int64(size) || sum.Sum32() != want {
				failed <- fmt.Errorf("client %d: %d bytes, %w", i, n, err)
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	return free
}
