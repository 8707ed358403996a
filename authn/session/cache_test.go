package session

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"
)

func TestCacheIsBounded(t *testing.T) {
	const most = 10 * shardCount
	c := newCache(most)
	for i := range 20 * most {
		var hash Hash
		rand.Read(hash[:])
		s := &Session{ID: rand.Text(), Seen: time.Unix(int64(i), 0)}
		if _, got := c.add(c.mark(), hash, fmt.Sprint(i), s); got != s {
			t.Fatal("a session read is not the session returned")
		}
	}
	sessions, handles := 0, 0
	for i := range shardCount {
		sessions += len(c.sessions[i].m)
		handles += len(c.handles[i].m)
	}
	if sessions > most || handles > 4*most || sessions < most*9/10 {
		t.Errorf("%d sessions and %d handles are kept, want at most %d and %d", sessions, handles, most, 4*most)
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newCache(10 * shardCount)
	kept := &Session{ID: "kept", Seen: time.Unix(1<<30, 0)}
	c.add(c.mark(), Hash{}, "wiki", kept)
	for i := range 100 * shardCount {
		var hash Hash
		rand.Read(hash[:])
		c.add(c.mark(), hash, "", &Session{ID: rand.Text(), Seen: time.Unix(int64(i), 0)})
	}
	if l, host := c.get(Hash{}); l == nil || l.session.Load() != kept || host != "wiki" {
		t.Error("the session used last was evicted")
	}
}

func TestDroppedSessionIsGoneForAllItsHandles(t *testing.T) {
	c := newCache(10 * shardCount)
	mark := c.mark()
	for i := range 3 {
		c.add(mark, Hash{byte(i)}, "", &Session{ID: "one"})
	}
	c.add(mark, Hash{9}, "", &Session{ID: "two"})
	c.drop("one")
	for i := range 3 {
		if l, _ := c.get(Hash{byte(i)}); l != nil && l.session.Load() != nil {
			t.Errorf("handle %d still finds the session", i)
		}
	}
	if l, _ := c.get(Hash{9}); l == nil || l.session.Load() == nil {
		t.Error("another session is gone too")
	}
	if _, s := c.add(mark, Hash{5}, "", &Session{ID: "one"}); s == nil {
		t.Error("what was read cannot be used once")
	}
	if l, _ := c.get(Hash{5}); l != nil {
		t.Error("what was read before the drop is kept after it")
	}
	if ids := c.dropAll(); len(ids) != 1 || ids[0] != "two" {
		t.Errorf("dropAll = %v, want two", ids)
	}
}
