package keyd

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/certs/internal/wire"
)

// logClock is a signing log whose clock stands until the test moves it.
type logClock struct {
	*signingLog
	at time.Time
}

func newLogClock() *logClock {
	c := &logClock{at: time.Unix(1_700_000_000, 0)}
	c.signingLog = newSigningLog(func() time.Time { return c.at })
	return c
}

func (c *logClock) refuse(n int, code wire.Code) {
	for range n {
		c.refused("wiki", wire.OpSignTLS13Server, code, "key wiki: no", peer{uid: 61002, pid: 7})
	}
}

// rest reads everything after a number, in as many answers as it takes.
func (c *logClock) rest(t *testing.T, after uint64) []wire.SigningEntry {
	t.Helper()
	var all []wire.SigningEntry
	for {
		data, err := c.read(after)
		if err != nil || len(data) > wire.MaxAnswer/2 {
			t.Fatalf("got %d bytes, %v", len(data), err)
		}
		var l wire.SigningLog
		if err := json.Unmarshal(data, &l); err != nil {
			t.Fatal(err)
		}
		if len(l.Entries) == 0 {
			if after+1 < l.Next {
				t.Fatalf("nothing after %d of %d", after, l.Next)
			}
			return all
		}
		for _, e := range l.Entries {
			if len(all) > 0 && e.Seq != all[len(all)-1].Seq+1 || (e.Window == nil) == (e.Refusal == nil) {
				t.Fatalf("entry %d comes after %d", e.Seq, all[len(all)-1].Seq)
			}
			all = append(all, e)
		}
		after = all[len(all)-1].Seq
	}
}

func TestSigningLogCountsWindows(t *testing.T) {
	c := newLogClock()
	if all := c.rest(t, 0); len(all) != 0 {
		t.Fatalf("a new log has %d entries", len(all))
	}
	for range 3 {
		c.signed("wiki", wire.OpSignTLS13Server)
	}
	c.signed("old", wire.OpSignTLS12Server)
	c.refuse(2, wire.Refused)
	c.at = c.at.Add(windowLength - 1)
	c.refuse(1, wire.Limited)
	if all := c.rest(t, 0); len(all) != 3 || all[0].Refusal.Code != "refused" || all[2].Refusal.Code != "limited" {
		t.Fatalf("got %v, want the three refusals", all)
	}
	c.at = c.at.Add(1)
	all := c.rest(t, 3)
	if len(all) != 1 || all[0].Window == nil {
		t.Fatalf("got %v, want the window", all)
	}
	got, _ := json.Marshal(all[0].Window)
	want := `{"from":"2023-11-14T22:13:20Z","to":"2023-11-14T22:13:30Z","rows":[` +
		`{"key":"old","op":"sign_tls12_server","signed":1},{"key":"wiki","op":"sign_tls13_server","signed":3,"refused":3}],` +
		`"codes":{"limited":1,"refused":2}}`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	c.at = c.at.Add(time.Hour)
	if all := c.rest(t, 4); len(all) != 0 {
		t.Errorf("an hour in which nothing happened has %d entries", len(all))
	}
	if all := c.rest(t, 1<<64-1); len(all) != 4 {
		t.Errorf("a reader that is ahead gets %d entries, want all", len(all))
	}
}

// KEY-05: each refusal is in the log: as an entry, or counted as one that has none. A flood of them takes bounded room,
// and what it pushes out can be seen to be gone.
func TestKEY05FloodOfRefusalsIsCounted(t *testing.T) {
	c := newLogClock()
	const each, windows = 1000, 3000
	var entries, dropped, counted, seen uint64
	take := func() {
		for _, e := range c.rest(t, seen) {
			seen = e.Seq
			if e.Refusal != nil {
				entries++
				continue
			}
			dropped += e.Window.Dropped
			counted += e.Window.Codes["wrong_purpose"]
		}
	}
	for range windows {
		c.refuse(each, wire.WrongPurpose)
		c.at = c.at.Add(windowLength)
		take()
	}
	if entries != ownEntries*windows || entries+dropped != each*windows || counted != each*windows {
		t.Errorf("got %d entries, %d dropped, %d counted of %d", entries, dropped, counted, each*windows)
	}
	if n, last := c.alarmed(); n != each*windows || last.Code != "wrong_purpose" {
		t.Errorf("got %d alarms, want %d", n, each*windows)
	}
	if c.weight > maxLogWeight || len(c.entries) > maxLogWeight {
		t.Errorf("the log weighs %d, with %d entries", c.weight, len(c.entries))
	}
	late := c.rest(t, 0)
	if first := late[0].Seq; first == 1 || first != seen-uint64(len(late))+1 {
		t.Errorf("a late reader begins at %d of %d: it cannot tell what it missed", first, seen)
	}
}

// A window and an answer stay small, whatever keys and operations there are and whatever is asked.
func TestSigningLogIsBounded(t *testing.T) {
	c := newLogClock()
	for n := range 1000 {
		name := fmt.Sprintf("%s%04d", strings.Repeat("x", 250), n)
		for op := range 256 {
			c.refused(name, wire.Op(op), wire.UnknownOp, strings.Repeat("<", 10000), peer{})
		}
		if n%100 == 99 {
			c.at = c.at.Add(windowLength)
		}
	}
	all := c.rest(t, 0)
	for _, e := range all {
		size, _ := json.Marshal(e)
		if len(size) > 50_000 { // with what a record has besides, 60 KiB fit the control log
			t.Fatalf("an entry takes %d bytes", len(size))
		}
		if w := e.Window; w != nil && (len(w.Rows) > maxRows || w.Other.Refused == 0) {
			t.Fatalf("got %d rows, %d in none", len(w.Rows), w.Other.Refused)
		}
	}
	if len(all) < 10 {
		t.Errorf("got %d entries", len(all))
	}
}
