package cache

import (
	"bytes"
	"io"
)

// Body is the content of an entry.
type Body interface {
	// Size is how many bytes there are.
	Size() int64
	// Open reads n bytes from a position; all of them are there. What it returns may be read by one goroutine.
	Open(from, n int64) io.ReadCloser
}

// Bytes is a body in memory.
type Bytes []byte

// Size is the number of bytes.
func (b Bytes) Size() int64 { return int64(len(b)) }

// Open reads from memory; the result is an io.WriterTo as well.
func (b Bytes) Open(from, n int64) io.ReadCloser {
	r := new(bytesReader)
	r.Reset(b[from : from+n])
	return r
}

type bytesReader struct{ bytes.Reader }

func (*bytesReader) Close() error { return nil }
