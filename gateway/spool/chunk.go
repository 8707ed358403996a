package spool

import "sync"

// A body begins in a small chunk, so that thousands of small or slow ones cost little, and goes on in large ones, so that
// fast ones need few system calls. Larger than 64 KiB brings no speed (measured: 32, 64 and 256 KiB alike).
const (
	tinyChunk  = 4 << 10
	smallChunk = 16 << 10
	largeChunk = 64 << 10
)

// chunk is a piece of memory with the bytes [r:w) in it.
type chunk struct {
	buf  []byte
	r, w int
}

func (c *chunk) bytes() []byte { return c.buf[c.r:c.w] }
func (c *chunk) empty() bool   { return c.r == c.w }

// The pools have no state that anybody could observe; what is in use is counted by the Spooler.
var (
	tinyChunks  = sync.Pool{New: func() any { return &chunk{buf: make([]byte, tinyChunk)} }}
	smallChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, smallChunk)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, largeChunk)} }}
)

func poolOf(size int) *sync.Pool {
	switch size {
	case tinyChunk:
		return &tinyChunks
	case smallChunk:
		return &smallChunks
	case largeChunk:
		return &largeChunks
	}
	panic("BUG: no chunk has this size")
}

// first is the chunk that a body begins with, and cannot do without: of the size asked for, or a tiny one when memory is
// short, for which the last eighth is kept. Nil when there is none.
func (s *Spooler) first(size int) *chunk {
	limit := s.settings.Load().memory
	if s.memory.take(int64(size), limit-limit/8) {
		return poolOf(size).Get().(*chunk)
	}
	if s.memory.take(tinyChunk, limit) {
		return tinyChunks.Get().(*chunk)
	}
	return nil
}

// further is a large chunk for a body that uses held bytes of memory already. The last quarter of the memory is not for
// bodies that want more, but for those that begin: without a chunk nothing gets from an app to a file.
func (s *Spooler) further(held int64) *chunk {
	set := s.settings.Load()
	if held+largeChunk > set.perBody || !s.memory.take(largeChunk, set.memory-set.memory/4) {
		return nil
	}
	return largeChunks.Get().(*chunk)
}

// release takes a chunk back that nobody reads or writes any more.
func (s *Spooler) release(c *chunk) {
	size := len(c.buf)
	c.r, c.w = 0, 0
	poolOf(size).Put(c)
	s.memory.give(int64(size))
}
