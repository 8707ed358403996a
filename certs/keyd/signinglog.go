package keyd

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"sallyport/certs/internal/wire"
)

const (
	// windowLength is how long requests are counted together.
	windowLength = 10 * time.Second
	// ownEntries is how many refusals of one window get an entry each. The others are counted: who floods keyd shall not
	// push what happened before out of its memory.
	ownEntries = 20
	// maxRows bounds the rows of a window, so that one fits a record of the gateway's control log.
	maxRows = 128
	// maxLogWeight bounds the log: refusals, and rows of windows. They take some 200 bytes each. A flood fills it in
	// two hours; one that names every key for every operation in eighteen minutes.
	maxLogWeight = 16 << 10
	// maxAnswerWeight bounds what one answer has of it, far below wire.MaxAnswer.
	maxAnswerWeight = 512
	// maxWhy bounds a sentence about a refusal, in bytes.
	maxWhy = 300
)

// signingLog remembers what was signed and refused, in memory: keyd writes no file for what anybody can ask for often.
type signingLog struct {
	boot string
	now  func() time.Time

	mu      sync.Mutex
	next    uint64              // Seq of the next entry
	entries []wire.SigningEntry // oldest first, without gaps, the last one next−1
	weight  int                 // of all entries
	open    *openWindow         // nil since the last one was closed
	alarms  uint64
	alarm   *wire.SigningRefusal // the last one
}

// openWindow is a window that is still being counted.
type openWindow struct {
	from    time.Time
	rows    map[rowKey]wire.SigningCount
	codes   map[string]uint64
	other   wire.SigningCount
	entries int // refusals with an entry of their own
	dropped uint64
}

type rowKey struct {
	key string
	op  wire.Op
}

func newSigningLog(now func() time.Time) *signingLog {
	return &signingLog{boot: rand.Text(), now: now, next: 1}
}

// signed counts a request that was answered with a signature.
func (l *signingLog) signed(key string, op wire.Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.windowLocked().count(rowKey{key, op}, wire.SigningCount{Signed: 1})
}

// refused counts a request that was not, and gives it an entry if its window has room.
func (l *signingLog) refused(key string, op wire.Op, code wire.Code, why string, p peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windowLocked()
	w.count(rowKey{key, knownOp(op)}, wire.SigningCount{Refused: 1})
	w.codes[code.String()]++
	r := &wire.SigningRefusal{Time: l.now().UTC(), Op: op.String(), Code: code.String(), Key: key, Why: why[:min(len(why), maxWhy)], UID: p.uid, PID: p.pid}
	if code == wire.WrongPurpose {
		l.alarms++
		l.alarm = r
	}
	if w.entries == ownEntries {
		w.dropped++
		return
	}
	w.entries++
	l.addLocked(wire.SigningEntry{Refusal: r})
}

// knownOp makes all operations that there are not one, so that nobody fills a window with them.
func knownOp(op wire.Op) wire.Op {
	if op.String() == wire.Op(0).String() {
		return 0
	}
	return op
}

// alarmed says how many requests there were for another purpose than their key's, and which was the last.
func (l *signingLog) alarmed() (uint64, *wire.SigningRefusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alarms, l.alarm
}

// read is the answer to signing_log.
func (l *signingLog) read(after uint64) ([]byte, error) {
	l.mu.Lock()
	l.closeLocked()
	answer := wire.SigningLog{Boot: l.boot, Oldest: l.next - uint64(len(l.entries)), Next: l.next}
	weight := 0
	for _, e := range l.entries[min(max(after+1, answer.Oldest), l.next)-answer.Oldest:] {
		if weight += weigh(e); weight > maxAnswerWeight && len(answer.Entries) > 0 {
			break
		}
		answer.Entries = append(answer.Entries, e)
	}
	l.mu.Unlock()
	return json.Marshal(answer) // entries are not changed once they are made
}

// windowLocked is the window that now belongs to.
func (l *signingLog) windowLocked() *openWindow {
	l.closeLocked()
	if l.open == nil {
		l.open = &openWindow{from: l.now(), rows: map[rowKey]wire.SigningCount{}, codes: map[string]uint64{}}
	}
	return l.open
}

// closeLocked makes an entry of a window whose time is over.
func (l *signingLog) closeLocked() {
	if w := l.open; w != nil && l.now().Sub(w.from) >= windowLength {
		l.open = nil
		l.addLocked(wire.SigningEntry{Window: w.closed()})
	}
}

// addLocked numbers an entry and makes room for it.
func (l *signingLog) addLocked(e wire.SigningEntry) {
	e.Seq = l.next
	l.next++
	l.entries = append(l.entries, e)
	l.weight += weigh(e)
	for l.weight > maxLogWeight {
		l.weight -= weigh(l.entries[0])
		l.entries[0] = wire.SigningEntry{} // the array behind lives on for a while
		l.entries = l.entries[1:]
	}
}

func weigh(e wire.SigningEntry) int {
	if e.Window != nil {
		return 1 + len(e.Window.Rows)
	}
	return 1
}

// count adds n to a row, or to what has none.
func (w *openWindow) count(k rowKey, n wire.SigningCount) {
	row, ok := w.rows[k]
	if !ok && len(w.rows) == maxRows {
		w.other = plus(w.other, n)
		return
	}
	w.rows[k] = plus(row, n)
}

func plus(a, b wire.SigningCount) wire.SigningCount {
	return wire.SigningCount{Signed: a.Signed + b.Signed, Refused: a.Refused + b.Refused}
}

func (w *openWindow) closed() *wire.SigningWindow {
	c := &wire.SigningWindow{From: w.from.UTC(), To: w.from.Add(windowLength).UTC(), Codes: w.codes, Dropped: w.dropped, Other: w.other}
	for k, n := range w.rows {
		c.Rows = append(c.Rows, wire.SigningRow{Key: k.key, Op: k.op.String(), SigningCount: n})
	}
	slices.SortFunc(c.Rows, func(a, b wire.SigningRow) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Op, b.Op)) })
	return c
}
