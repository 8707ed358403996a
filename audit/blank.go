package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fillChunk is how much of a new segment is zeroed between two syncs. Preparing the next segment shares the disk
	// with commits, and none of those has to wait for more than this.
	fillChunk = 1 << 20
	// blankRetry is how long the preparation of the next segment rests after a failure. There is no hurry: the current
	// segment still has room, and a commit that fills it makes a successor itself.
	blankRetry = 5 * time.Second
)

// blank is a file of zeros, durable as such, that has no segment's name yet.
type blank struct {
	file File
	name string
	size int64
}

// blanks prepares the next blank file when asked to, so that the commit which fills a segment does not have to wait
// for zeros.
type blanks struct {
	fs     FileSystem
	folder string
	size   int64
	log    *slog.Logger

	reserving sync.Mutex // held while the reserve is looked at, made or used; see reserve.go

	made   atomic.Uint64 // for names
	wanted chan struct{} // holds one when the next blank should be made
	ready  chan *blank
	stop   chan struct{}
	wg     sync.WaitGroup
}

func newBlanks(fs FileSystem, folder string, size int64, log *slog.Logger) *blanks {
	return &blanks{
		fs: fs, folder: folder, size: size, log: log,
		wanted: make(chan struct{}, 1), ready: make(chan *blank, 1), stop: make(chan struct{}),
	}
}

// start starts the goroutine that prepares; close ends it and removes what is left over.
func (b *blanks) start() { b.wg.Go(b.prepare) }

func (b *blanks) close() error {
	close(b.stop)
	b.wg.Wait()
	select {
	case left := <-b.ready:
		return left.discard(b.fs)
	default:
		return nil
	}
}

// want has a blank prepared unless one is, or is about to be. It does not wait.
func (b *blanks) want() {
	if len(b.ready) > 0 {
		return
	}
	select {
	case b.wanted <- struct{}{}:
	default:
	}
}

// take returns the prepared blank, or makes one.
func (b *blanks) take() (*blank, error) {
	select {
	case ready := <-b.ready:
		return ready, nil
	default:
		return b.make()
	}
}

// make makes a blank under a name of its own. Real zeros, because a sync into merely reserved space would have to
// write the file's extents as well each time.
func (b *blanks) make() (*blank, error) {
	name := path.Join(b.folder, fmt.Sprintf("blank-%d%s", b.made.Add(1), temporarySuffix))
	f, err := b.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC|wholeBlocks)
	if err != nil {
		return nil, fmt.Errorf("creating audit segment: %w", err)
	}
	made := &blank{f, name, b.size}
	if err := made.fill(); err != nil {
		return nil, errors.Join(fmt.Errorf("preallocating audit segment: %w", err), made.discard(b.fs))
	}
	return made, nil
}

func (b *blank) fill() error {
	zero := make([]byte, min(b.size, fillChunk))
	for at := int64(0); at < b.size; at += fillChunk {
		if _, err := b.file.WriteAt(zero[:min(b.size-at, fillChunk)], at); err != nil {
			return err
		}
		if err := b.file.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func (b *blank) discard(fsys FileSystem) error {
	err := fsys.Remove(b.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(b.file.Close(), err)
}

func (b *blanks) prepare() {
	for {
		select {
		case <-b.stop:
			return
		case <-b.wanted:
		}
		for len(b.ready) == 0 {
			next, err := b.make()
			if err == nil {
				b.ready <- next
				continue
			}
			b.log.Warn("preparing the next audit segment failed", "folder", b.folder, "error", err)
			if !b.rest() {
				return
			}
		}
	}
}

// rest reports whether the preparation should go on after a while.
func (b *blanks) rest() bool {
	timer := time.NewTimer(blankRetry)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-b.stop:
		return false
	}
}
