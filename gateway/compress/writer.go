package compress

import (
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// Writer compresses what is written to it. It is for one goroutine, as the io.Writer below it is.
type Writer struct {
	below io.Writer
	zip   *gzip.Writer // nil after Close
}

// writers keeps compressors, whose tables cost more to make than an answer to compress.
var writers = sync.Pool{New: func() any {
	zip, err := gzip.NewWriterLevel(nil, level)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return zip
}}

// level is the one that keeps up with a network: the gateway compresses each answer anew.
const level = gzip.BestSpeed

// NewWriter writes compressed to w.
func NewWriter(w io.Writer) *Writer {
	zip := writers.Get().(*gzip.Writer)
	zip.Reset(w)
	return &Writer{below: w, zip: zip}
}

// Write compresses p; what it means may wait in the compressor until Flush or Close.
func (w *Writer) Write(p []byte) (int, error) {
	if w.zip == nil {
		return 0, io.ErrClosedPipe
	}
	return w.zip.Write(p)
}

// Flush brings everything written so far to the client, also through the writer below where that has a Flush() error.
func (w *Writer) Flush() error {
	if w.zip == nil {
		return io.ErrClosedPipe
	}
	if err := w.zip.Flush(); err != nil {
		return err
	}
	if below, ok := w.below.(interface{ Flush() error }); ok {
		return below.Flush()
	}
	return nil
}

// Close writes the end of the compressed answer and gives the compressor back. It leaves the writer below open. An answer
// that broke off is not closed: its reader must not take the part for the whole.
func (w *Writer) Close() error {
	if w.zip == nil {
		return nil
	}
	err := w.zip.Close()
	w.zip.Reset(io.Discard) // keeps no hold on the client
	writers.Put(w.zip)
	w.zip = nil
	return err
}
