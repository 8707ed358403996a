package canon

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
)

// readFraming refuses what leaves doubt about where the message ends. net/http has settled Content-Length against
// Transfer-Encoding before (RFC 9112 §6.3); what it lets pass is judged here.
func (q *Request) readFraming(r *http.Request, _ *Rules) *Reject {
	http1, http2 := r.ProtoMajor == 1 && r.ProtoMinor == 1, r.ProtoMajor == 2
	switch coding := r.TransferEncoding; {
	case !http1 && !http2:
		return reject(BadProtocol, r.Proto)
	case len(coding) > 1 || len(coding) == 1 && (coding[0] != "chunked" || http2):
		return reject(BadFraming, "transfer-encoding")
	case http2 && (r.Header["Transfer-Encoding"] != nil || r.Header["Connection"] != nil || r.Header["Upgrade"] != nil):
		return reject(BadFraming, "connection header in HTTP/2") // RFC 9113 §8.2.2
	case !lengthAsRead(r):
		return reject(BadFraming, "content-length")
	case len(r.Trailer) > 0 || r.Header["Trailer"] != nil:
		return reject(HasTrailer, "")
	}
	for _, expect := range r.Header["Expect"] { // RFC 9110 §10.1.1
		if !strings.EqualFold(expect, "100-continue") {
			return reject(BadExpect, expect)
		}
	}
	q.Close = http1 && len(r.TransferEncoding) > 0
	return nil
}

// lengthAsRead holds when the Content-Length, where there is one, is the length by which net/http reads the body, written
// in the one usual way (RFC 9110 §8.6). HTTP/1.1 admits "007" otherwise; HTTP/2 takes the first of several, what is no
// number for 0, and believes a length that a request without DATA frames claims.
func lengthAsRead(r *http.Request) bool {
	switch length := r.Header["Content-Length"]; len(length) {
	case 0:
		return true
	case 1:
		var digits [20]byte
		return length[0] == string(strconv.AppendInt(digits[:0], r.ContentLength, 10))
	}
	return false
}

// readUpgrade admits one upgrade, to WebSocket (RFC 6455 §4.2.1), whole or not at all: an incomplete handshake that an
// app answers with an error leaves some proxies with an open tunnel. HTTP2-Settings goes with "Upgrade: h2c", which
// would let a client speak past every decision.
func (q *Request) readUpgrade(r *http.Request, _ *Rules) *Reject {
	wish := r.Header["Upgrade"]
	if wish == nil {
		return nil
	}
	key := r.Header.Values("Sec-Websocket-Key")
	version := r.Header.Values("Sec-Websocket-Version")
	switch {
	case len(wish) != 1 || !strings.EqualFold(wish[0], "websocket"):
		return reject(BadUpgrade, strings.Join(wish, ", "))
	case !hasToken(r.Header["Connection"], "upgrade"):
		return reject(BadUpgrade, "without Connection: upgrade")
	case r.Method != http.MethodGet || r.ContentLength != 0 || r.Header["Expect"] != nil:
		return reject(BadUpgrade, "websocket with a body or another method than GET")
	case len(version) != 1 || version[0] != "13":
		return reject(BadUpgrade, "websocket version")
	case len(key) != 1 || !isWebSocketKey(key[0]):
		return reject(BadUpgrade, "websocket key")
	}
	q.Upgrade = "websocket"
	return nil
}

// isWebSocketKey wants 16 bytes in base64.
func isWebSocketKey(key string) bool {
	nonce, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(nonce) == 16
}

// hasToken looks for a token in comma-separated lists, without case.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for item := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.Trim(item, " \t"), token) {
				return true
			}
		}
	}
	return false
}
