package rawhttp

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Field is one header field of an HTTP/2 request, pseudo fields included; nothing about it is checked.
type Field struct{ Name, Value string }

// H2 is one HTTP/2 connection on which any frames may be sent.
type H2 struct {
	tls    *tls.Conn
	framer *http2.Framer
	next   uint32 // stream
}

// DialH2 opens an HTTP/2 connection with a server name and exchanges settings.
func (d Dialer) DialH2(serverName string) (*H2, error) {
	conn, err := d.handshake(serverName, "h2")
	if err != nil {
		return nil, err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		conn.Close()
		return nil, fmt.Errorf("the gateway speaks %q, want h2", got)
	}
	h := &H2{tls: conn, framer: http2.NewFramer(conn, conn), next: 1}
	h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.framer.AllowIllegalWrites = true
	conn.SetWriteDeadline(time.Now().Add(answerWait))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		conn.Close()
		return nil, err
	}
	if err := h.framer.WriteSettings(); err != nil {
		conn.Close()
		return nil, err
	}
	return h, nil
}

// Close hangs up.
func (h *H2) Close() { h.tls.Close() }

// Do sends one request on a stream of its own and waits for its answer. A nil body ends the stream with the header.
// A stream that is reset, and a connection that is ended, have Status 0.
func (h *H2) Do(fields []Field, body []byte) Answer {
	stream := h.next
	h.next += 2
	if err := h.send(stream, fields, body); err != nil {
		return Answer{Ended: err.Error()}
	}
	return h.receive(stream)
}

func (h *H2) send(stream uint32, fields []Field, body []byte) error {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		if err := encoder.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value, Sensitive: true}); err != nil {
			return err
		}
	}
	h.tls.SetWriteDeadline(time.Now().Add(answerWait))
	err := h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: body == nil, EndHeaders: true})
	if err != nil || body == nil {
		return err
	}
	return h.framer.WriteData(stream, true, body)
}

// settle waits for the answer on a stream after frames of any kind. Where the server waits on, for more frames or because
// it answers nothing, a ping tells: it is answered in its place behind what there is to say.
func (h *H2) settle(stream uint32) Answer {
	h.tls.SetWriteDeadline(time.Now().Add(answerWait))
	h.framer.WritePing(false, lastPing) // an error is seen when reading
	return h.receiveUntil(stream, pingWait)
}

// lastPing marks the end of what a case sends.
var lastPing = [8]byte{'t', 'h', 'e', ' ', 'e', 'n', 'd'}

func (h *H2) receive(stream uint32) (answer Answer) { return h.receiveUntil(stream, answerWait) }

func (h *H2) receiveUntil(stream uint32, afterPing time.Duration) (answer Answer) {
	h.tls.SetReadDeadline(time.Now().Add(answerWait))
	for {
		frame, err := h.framer.ReadFrame()
		if err != nil {
			return Answer{Ended: err.Error()}
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				h.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if f.IsAck() {
				h.tls.SetReadDeadline(time.Now().Add(afterPing))
			} else {
				h.framer.WritePing(true, f.Data)
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo || f.LastStreamID < stream {
				return Answer{Ended: "GOAWAY " + f.ErrCode.String()}
			}
		case *http2.RSTStreamFrame:
			// RFC 9113 §8.1: NO_ERROR after a whole answer only says that the rest of the body is not wanted.
			if f.StreamID == stream {
				return Answer{Ended: "RST_STREAM " + f.ErrCode.String()}
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream {
				answer.read(f)
			}
		case *http2.DataFrame:
			if f.Length > 0 {
				h.framer.WriteWindowUpdate(0, f.Length) // a connection may carry many answers
			}
			if f.StreamID == stream {
				answer.Body = append(answer.Body, f.Data()...)
			}
		}
		if ended(frame, stream) {
			return answer
		}
	}
}

func (a *Answer) read(f *http2.MetaHeadersFrame) {
	if a.Status != 0 {
		return // trailers
	}
	status, _ := strconv.Atoi(f.PseudoValue("status"))
	if status < 200 {
		return
	}
	a.Status, a.Header = status, http.Header{}
	for _, field := range f.RegularFields() {
		a.Header.Add(field.Name, field.Value)
	}
}

func ended(frame http2.Frame, stream uint32) bool {
	head := frame.Header()
	carries := head.Type == http2.FrameHeaders || head.Type == http2.FrameData
	return carries && head.StreamID == stream && head.Flags.Has(http2.FlagDataEndStream)
}
