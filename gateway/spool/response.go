package spool

import (
	"context"
	"io"
	"sync"
)

// Reader is an answer that is drained from its app while its client reads behind.
//
// What waits is, in the order of the answer: front, whole chunks in memory; extent, the unread part of the file; back, the
// chunk that is being filled. Two goroutines share it. The filler (fill.go) is the only one that adds, the client's is
// the only one that takes away; what either does outside the mutex the other leaves alone, and says so there.
type Reader struct {
	spool  *Spooler
	src    io.ReadCloser
	direct bool        // no memory at all was left: the client's goroutine reads src itself
	stop   func() bool // watching the context
	once   sync.Once   // closing src

	mu      sync.Mutex
	changed sync.Cond
	front   []*chunk
	extent  extent
	back    *chunk
	held    int64 // bytes of memory in use
	filling bool  // the filler runs, and fills back
	waiting bool  // the filler waits for room
	end     error // how src ended, io.EOF included; src is closed then
	gone    error // why nothing is handed out any more: closed, the context's cause, or a broken file
	writing bool  // WriteTo writes what is in taken
	taken   *chunk
}

// Response drains src, from now on and in the background, into memory and file, and hands it out again. src is closed as
// soon as it has ended, or else when the Reader is closed or ctx ends; that must end a Read of it that is under way, as it
// does for the bodies of net/http. The end of ctx ends the Reader at once, whatever still waits, with the context's cause.
// The caller closes the Reader, which frees all it holds.
//
// Bytes of the answer that the caller has read already it can write to the client once Response has been called. What
// src knows at its end, such as a trailer, may be looked at when the Reader has returned io.EOF.
func (s *Spooler) Response(ctx context.Context, src io.ReadCloser) *Reader {
	r := &Reader{spool: s, src: src, back: s.first(smallChunk)}
	r.changed.L = &r.mu
	s.bodies.Add(1)
	if r.direct = r.back == nil; !r.direct {
		r.held, r.filling = int64(len(r.back.buf)), true
		s.fillers.Go(r.fill)
	}
	r.stop = context.AfterFunc(ctx, func() { r.leave(context.Cause(ctx)) })
	return r
}

// Close ends the Reader and frees what it holds. It may be called at any time, and more than once.
func (r *Reader) Close() error {
	r.stop()
	r.leave(ErrClosed)
	return nil
}

// Idle reports whether a Read would have to wait for the app, so that the client should get now what it was sent so far.
func (r *Reader) Idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone == nil && r.end == nil && r.taken == nil && len(r.front) == 0 && r.extent.empty() && (r.back == nil || r.back.empty())
}

// Read hands out what waits, or waits for the app. It returns the error of src after the bytes before it, and io.EOF only
// when src has ended and is closed. Read and WriteTo are for one goroutine.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.readLocked(p)
}

// WriteTo hands out everything up to the end of src, which is no error.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	buf := smallChunks.Get().(*chunk)
	defer smallChunks.Put(buf)
	var written int64
	for {
		p, err := r.next(buf.buf)
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(p)
		written += int64(n)
		r.wrote(n)
		if err != nil {
			return written, err
		}
	}
}

// next returns bytes to be written: a chunk's own until wrote is called, or some in buf.
func (r *Reader) next(buf []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone == nil && r.takeLocked() {
		r.writing = true // keeps the chunk when the Reader ends meanwhile
		return r.taken.bytes(), nil
	}
	n, err := r.readLocked(buf)
	return buf[:n], err
}

func (r *Reader) wrote(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.writing {
		return
	}
	r.writing = false
	r.taken.r += n
	if r.gone != nil || r.taken.empty() {
		r.releaseTakenLocked()
	}
}

// readLocked is Read. It unlocks while it waits, for the app or for a disk.
func (r *Reader) readLocked(p []byte) (int, error) {
	for {
		switch {
		case r.gone != nil:
			return 0, r.gone
		case r.takeLocked():
			n := copy(p, r.taken.bytes())
			r.taken.r += n
			if r.taken.empty() {
				r.releaseTakenLocked()
			}
			return n, nil
		case !r.extent.empty():
			return r.readFileLocked(p)
		case r.back != nil && !r.back.empty():
			n := copy(p, r.back.bytes())
			r.back.r += n
			r.progressLocked()
			return n, nil
		case r.end != nil:
			return 0, r.end
		case r.direct:
			return r.readSourceLocked(p)
		}
		r.changed.Wait()
	}
}

// takeLocked makes sure that taken is the first chunk in memory, if there is any.
func (r *Reader) takeLocked() bool {
	if r.taken == nil && len(r.front) > 0 {
		r.taken = r.front[0]
		r.front = append(r.front[:0], r.front[1:]...)
	}
	return r.taken != nil
}

func (r *Reader) releaseTakenLocked() {
	r.releaseLocked(r.taken)
	r.taken = nil
	r.progressLocked()
}

func (r *Reader) releaseLocked(c *chunk) {
	r.held -= int64(len(c.buf))
	r.spool.release(c)
}

// progressLocked tells a filler that waits for room that there may be some.
func (r *Reader) progressLocked() {
	if r.waiting {
		r.changed.Broadcast()
	}
}

// readFileLocked reads from the file, unlocked. The unread part only grows meanwhile, at its end.
func (r *Reader) readFileLocked(p []byte) (int, error) {
	f, offset := r.extent.file, r.extent.r
	p = p[:min(int64(len(p)), r.extent.unread())]
	r.mu.Unlock()
	n, err := f.ReadAt(p, offset)
	r.mu.Lock()
	if r.gone != nil {
		return 0, r.gone
	}
	if n == 0 {
		r.leaveLocked(r.spool.lost(err))
		return 0, r.gone
	}
	r.extent.r += int64(n)
	r.punchLocked()
	r.progressLocked()
	return n, r.gone
}

// punchLocked gives the space before the unread part back: in large steps, as each is a transaction of the file system;
// in small ones when the filler waits for it.
func (r *Reader) punchLocked() {
	step := int64(punchStep)
	if r.waiting {
		step = largeChunk
	}
	f, from, to := r.extent.file, r.extent.freed, r.extent.r&^(blockSize-1)
	if r.extent.solid || to-from < step {
		return
	}
	r.mu.Unlock()
	err := f.Punch(from, to-from)
	r.mu.Lock()
	switch {
	case r.gone != nil:
	case err != nil:
		r.extent.solid = true // a file system that cannot: the filler begins another file when this one is read
	default:
		r.extent.freed = to
		r.spool.disk.give(to - from)
	}
}

// readSourceLocked reads from the app without anything between, unlocked.
func (r *Reader) readSourceLocked(p []byte) (int, error) {
	r.mu.Unlock()
	n, err := r.src.Read(p)
	if err != nil {
		r.closeSource()
	}
	r.mu.Lock()
	if r.gone != nil {
		return 0, r.gone
	}
	r.end = err
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// leave ends both sides; the first reason counts.
func (r *Reader) leave(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaveLocked(why)
}

// leaveLocked unlocks to close src, which interrupts a filler that reads from it.
func (r *Reader) leaveLocked(why error) {
	if r.gone != nil {
		return
	}
	r.gone = why
	r.spool.bodies.Add(-1)
	r.freeLocked()
	r.changed.Broadcast()
	r.mu.Unlock()
	r.closeSource()
	r.mu.Lock()
}

// freeLocked frees what nobody uses outside the mutex. The rest is freed by its user: back by the filler, taken by WriteTo.
// A file may be in use: its space is the kernel's to free when the call under way is done.
func (r *Reader) freeLocked() {
	r.extent.drop(r.spool)
	for _, c := range r.front {
		r.releaseLocked(c)
	}
	r.front = nil
	if r.taken != nil && !r.writing {
		r.releaseTakenLocked()
	}
	if r.back != nil && !r.filling {
		r.releaseLocked(r.back)
		r.back = nil
	}
}

func (r *Reader) closeSource() { r.once.Do(func() { r.src.Close() }) }
