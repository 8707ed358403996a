package compress

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// blockSize is how much is compressed at once, the largest block of the compressor we use.
//
// It is one that keeps nothing from block to block. Those that do hold 0.8 to 1.2 MiB for as long as their client takes,
// which is a gift to slow clients (threats: DOS-19); without it five hundred of them cost 32 MiB and not 500, and answers
// are up to 8 % longer than at level 1 (measured on Go, HTML and Markdown).
const blockSize = 1<<15 - 1

// Writer compresses what is written to it. It is for one goroutine, as the io.Writer below it is.
type Writer struct {
	below io.Writer
	err   error
	*press
}

// press is what a Writer borrows.
type press struct {
	in  []byte
	out bytes.Buffer
	zip *gzip.Writer // into out
}

// presses has no state that anybody could observe.
var presses = sync.Pool{New: func() any {
	p := &press{in: make([]byte, 0, blockSize)}
	zip, err := gzip.NewWriterLevel(&p.out, gzip.StatelessCompression)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	p.zip = zip
	return p
}}

// NewWriter writes compressed to w. A Writer of an answer that broke off may be dropped.
func NewWriter(w io.Writer) *Writer {
	p := presses.Get().(*press)
	p.in = p.in[:0]
	p.out.Reset()
	p.zip.Reset(&p.out)
	return &Writer{below: w, press: p}
}

// Write takes p; it reaches the writer below with a full block, Flush or Close.
func (w *Writer) Write(p []byte) (int, error) {
	written := 0
	for w.err == nil && written < len(p) {
		n := min(len(p)-written, blockSize-len(w.in))
		w.in = append(w.in, p[written:written+n]...)
		written += n
		if len(w.in) == blockSize {
			w.squeeze()
		}
	}
	return written, w.err
}

// Flush brings everything written so far to the client, also through the writer below where that has a Flush() error.
func (w *Writer) Flush() error {
	if w.err == nil {
		w.squeeze()
	}
	if below, ok := w.below.(interface{ Flush() error }); ok && w.err == nil {
		w.err = below.Flush()
	}
	return w.err
}

// Close writes the end of the compressed answer. It leaves the writer below open. An answer that broke off is not closed:
// its reader must not take the part for the whole.
func (w *Writer) Close() error {
	if w.press == nil {
		return nil
	}
	if w.err == nil {
		w.zip.Write(w.in)
		w.zip.Close()
		_, w.err = w.below.Write(w.out.Bytes())
	}
	err := w.err
	if err == nil { // whoever failed to write may still be about to send from the buffer
		presses.Put(w.press)
	}
	w.press, w.err = nil, io.ErrClosedPipe
	return err
}

// squeeze compresses what has gathered. What it says to the compressor ends in memory and cannot fail.
func (w *Writer) squeeze() {
	if len(w.in) == 0 {
		return
	}
	w.zip.Write(w.in)
	w.in = w.in[:0]
	_, w.err = w.below.Write(w.out.Bytes())
	w.out.Reset()
}
