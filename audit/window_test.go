package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func windows(t *testing.T, m *machine) []WindowDetail {
	t.Helper()
	var all []WindowDetail
	for _, r := range records(t, m, DecisionLog) {
		var d WindowDetail
		if r.Type != TypeWindow {
			continue
		}
		if err := json.Unmarshal(r.Detail, &d); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func TestWindowCountsByReasonAppAndNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		w := NewWindow(a.Decisions())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var run sync.WaitGroup
		run.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		for _, c := range []struct{ reason, app, addr string }{
			{"bad_request", "", "192.0.2.1"}, {"bad_request", "", "192.0.2.255"}, {"bad_request", "", "::ffff:192.0.2.7"},
			{"bad_request", "", "192.0.3.1"}, {"tls", "", "2001:db8:1:2::3"}, {"tls", "wiki", "2001:db8:1:ffff::1%eth0"},
		} {
			w.Count(c.reason, c.app, netip.MustParseAddr(c.addr))
		}
		w.Count("tls", "", netip.Addr{})
		time.Sleep(windowPeriod + time.Second)
		w.Count("tls", "", netip.MustParseAddr("192.0.2.1"))
		cancel()
		run.Wait()
		synctest.Wait()
		var got []string
		for _, d := range windows(t, m) {
			for _, r := range d.Rows {
				got = append(got, fmt.Sprint(r.Reason, " ", r.App, " ", r.Network, " ", r.Count))
			}
			got = append(got, "-")
		}
		want := "bad_request  192.0.2.0/24 3|bad_request  192.0.3.0/24 1|tls  invalid Prefix 1|tls  2001:db8:1::/48 1|" +
			"tls wiki 2001:db8:1::/48 1|-|tls  192.0.2.0/24 1|-"
		if strings.Join(got, "|") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
		}
	})
}

// However many strangers there are and whatever they send, a window stays small and loses no count.
func TestWindowIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const strangers = windowRows + 1000
		a, m := openSimulated(t)
		w := NewWindow(a.Decisions())
		name := strings.Repeat("\u202e\xff<", 100)
		for i := range strangers {
			w.Count(name, name, netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}))
		}
		if err := w.post(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		rows, other := 0, uint64(0)
		for _, d := range windows(t, m) {
			rows += len(d.Rows)
			other += d.Other
		}
		if rows != windowRows || other != strangers-windowRows {
			t.Errorf("%d rows and %d others, want %d and %d", rows, other, windowRows, strangers-windowRows)
		}
	})
}

// What the log cannot take now is counted in a later window.
func TestWindowOutlivesAFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk(nil).boot(-1, false)
		a := openTest(t, "unused", Options{FS: m, segmentSize: smallestSegment, maxQueued: 2 << 20})
		w := NewWindow(a.Decisions())
		l := a.Decisions()
		release := hang(m)
		for l.Post(t.Context(), decision(strings.Repeat("x", 50<<10))) == nil {
		}
		for i := range 2 * windowRecordRows {
			w.Count("tls", "", netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}))
		}
		for w.post(t.Context()) == nil { // until not even a window fits any more
			w.Count("tls", "", netip.AddrFrom4([4]byte{10, 0, 0, 1}))
		}
		release()
		synctest.Wait()
		if err := w.post(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		total := uint64(0)
		for _, d := range windows(t, m) {
			for _, r := range d.Rows {
				total += r.Count
			}
		}
		if total < 2*windowRecordRows {
			t.Errorf("%d counted in the end, want all %d", total, 2*windowRecordRows)
		}
	})
}
