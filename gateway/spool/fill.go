package spool

import (
	"errors"
	"io"
	"os"
	"time"
)

const (
	// punchStep is how much of a file is read before its space is given back.
	punchStep = 4 << 20
	// blockSize is what file systems give back whole; it is 4 KiB on all that matter, and harmless where it is not.
	blockSize = 4 << 10
	// maxEmptyReads is how often src may return nothing and no error in a row, as in bufio.
	maxEmptyReads = 100
)

// extent is the part of an answer that waits in a file. The file's own offsets are used once: what has been read is freed
// behind, so that the size of the file grows and its space does not.
type extent struct {
	file  file
	r, w  int64 // the unread part
	freed int64 // everything before has been given back
	solid bool  // the file system gives nothing back of a file
}

func (e *extent) empty() bool   { return e.r == e.w }
func (e *extent) unread() int64 { return e.w - e.r }

// drop closes the file.
func (e *extent) drop(s *Spooler) {
	if e.file != nil {
		e.file.Close()
		s.files.Add(-1)
		s.disk.give(e.w - e.freed)
	}
	*e = extent{}
}

// fill is the filler: it runs until src has ended or the Reader has.
func (r *Reader) fill() {
	end := r.drain()
	r.closeSource() // the app is free
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = end
	r.changed.Broadcast()
	r.tidyLocked()
	r.filling = false
	switch {
	case r.gone != nil:
		r.freeLocked()
	case r.back.empty():
		r.releaseLocked(r.back)
		r.back = nil
	}
}

func (r *Reader) drain() error {
	for empty := 0; empty < maxEmptyReads; empty++ {
		space, err := r.space()
		if err != nil {
			return err
		}
		n, err := r.src.Read(space)
		if n > 0 {
			r.add(n)
			empty = 0
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// space is where the next bytes go. Only the filler writes there, and readers do not look there before add.
func (r *Reader) space() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.gone == nil {
		if r.back.empty() {
			r.back.r, r.back.w = 0, 0
		}
		if space := r.back.buf[r.back.w:]; len(space) >= len(r.back.buf)/8 {
			return space, nil
		}
		switch {
		case r.moreLocked():
		case r.spillLocked():
			r.upgradeLocked()
		case r.compactLocked():
		default:
			r.waitLocked()
		}
	}
	return nil, r.gone
}

func (r *Reader) add(n int) {
	r.mu.Lock()
	r.back.w += n
	r.mu.Unlock()
	r.changed.Signal() // nobody else waits while the filler runs
}

// moreLocked goes on in another chunk in memory. Nothing may be in the file then, which comes after front.
func (r *Reader) moreLocked() bool {
	if !r.extent.empty() {
		return false
	}
	c := r.spool.further(r.held)
	if c == nil {
		return false
	}
	r.front = append(r.front, r.back)
	r.back = c
	r.held += int64(len(c.buf))
	return true
}

// spillLocked moves back to the end of the file, unlocked. When the file is read to its end the client goes on in back
// meanwhile: what it took there it need not read in the file. On an error back is as it was.
func (r *Reader) spillLocked() bool {
	s, from := r.spool, r.back.r
	p := r.back.bytes()
	if !r.reserveLocked(int64(len(p))) {
		return false
	}
	f, offset := r.extent.file, r.extent.w
	r.mu.Unlock()
	f, fresh, err := s.write(f, p, offset)
	r.mu.Lock()
	if r.gone != nil { // and the file is dropped, unless it is new
		s.disk.give(int64(len(p)))
		if fresh {
			f.Close()
		}
		return true
	}
	if fresh {
		r.extent.file = f
		s.files.Add(1)
	}
	if err != nil {
		s.disk.give(int64(len(p)))
		return false
	}
	r.extent.w += int64(len(p))
	r.extent.r += int64(r.back.r - from)
	r.back.r, r.back.w = 0, 0
	return true
}

// reserveLocked takes n bytes of the disk's budget.
func (r *Reader) reserveLocked(n int64) bool {
	set := r.spool.settings.Load()
	if r.extent.solid && r.extent.empty() {
		r.extent.drop(r.spool)
	}
	return r.extent.w-r.extent.freed+n <= set.bodyDisk && r.spool.disk.take(n, set.disk)
}

// write writes p to f, or to a new file if there is none yet, which is returned even if writing fails.
func (s *Spooler) write(f file, p []byte, offset int64) (_ file, fresh bool, err error) {
	if f == nil {
		if f, err = s.settings.Load().folder.Create(); err != nil {
			s.failures.Add(1)
			return nil, false, err
		}
		fresh = true
	}
	_, err = f.WriteAt(p, offset)
	if err != nil && !errors.Is(err, os.ErrClosed) { // closed meanwhile, as its client went
		s.failures.Add(1)
	}
	return f, fresh, err
}

// upgradeLocked takes a large chunk for a small one that is empty: what comes now is many system calls otherwise.
func (r *Reader) upgradeLocked() {
	small := r.back
	if r.gone != nil || len(small.buf) == largeChunk {
		return
	}
	c := r.spool.further(r.held - int64(len(small.buf)))
	if c == nil {
		return
	}
	r.back = c
	r.held += int64(len(c.buf))
	r.releaseLocked(small)
}

// compactLocked moves what is left in back to its beginning, once that is worth while.
func (r *Reader) compactLocked() bool {
	b := r.back
	if b.r < len(b.buf)/4 {
		return false
	}
	b.r, b.w = 0, copy(b.buf, b.bytes())
	return true
}

// waitLocked waits for the client to read, or for room that others leave.
func (r *Reader) waitLocked() {
	r.waiting = true
	r.spool.stalled.Add(1)
	again := time.AfterFunc(r.spool.retry, r.changed.Broadcast)
	r.changed.Wait()
	again.Stop()
	r.spool.stalled.Add(-1)
	r.waiting = false
}

// tidyLocked puts the last bytes of an answer whose client is still in the file there, too: memory is for those that
// come next.
func (r *Reader) tidyLocked() {
	if r.gone == nil && !r.extent.empty() && !r.back.empty() {
		r.spillLocked()
	}
}
