package rawhttp

import (
	"bytes"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Wire is one HTTP/2 connection on which a case says frames as it likes. Words of cases are replaced in fields.
type Wire struct {
	h2   *H2
	fill func(string) string
}

// Block is a field block. Nothing is put into the compression's table.
func (w *Wire) Block(fields ...Field) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		encoder.WriteField(hpack.HeaderField{Name: f.Name, Value: w.fill(f.Value), Sensitive: true}) // to memory: it cannot fail
	}
	return block.Bytes()
}

// Headers begins a message, or ends one. An error means that the peer has hung up, which may be its answer.
func (w *Wire) Headers(stream uint32, flags http2.Flags, fields ...Field) error {
	return w.Frame(http2.FrameHeaders, flags, stream, w.Block(fields...))
}

// Frame sends one frame of any content.
func (w *Wire) Frame(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) error {
	w.h2.tls.SetWriteDeadline(time.Now().Add(answerWait))
	return w.h2.framer.WriteRawFrame(kind, flags, stream, payload)
}
