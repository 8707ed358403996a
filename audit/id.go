package audit

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// ids makes the ids of records. Its random bytes are drawn for several at a time, since asking for a few costs as much as
// asking for many. It belongs to one goroutine at a time.
type ids struct {
	random [32 * idRandom]byte
	left   int // bytes at the end of random that no id has used
}

const idRandom = 10 // bytes of an id that are not its time

// next is a UUIDv7 (RFC 9562 §5.7) of the given time, which is the record's own: the ids of a log whose clock steps back
// say so too, and only seq orders.
func (g *ids) next(now time.Time) string {
	if g.left == 0 {
		rand.Read(g.random[:]) // never fails
		g.left = len(g.random)
	}
	var id [16]byte
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	g.left -= copy(id[6:], g.random[len(g.random)-g.left:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
