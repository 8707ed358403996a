package cache_test

import (
	"fmt"
	"runtime"
	"testing"

	"sallyport/gateway/cache"
	"sallyport/gateway/cache/cachetest"
)

func TestMemory(t *testing.T) {
	cachetest.Run(t, func(_ *testing.T, bytes int64) cache.Store { return cache.NewMemory(bytes) })
}

// CACHE-23: many keys stay within bytes, as counted and as the runtime sees it.
func TestManyKeysStayWithinBytes(t *testing.T) {
	const limit = 32 << 20
	before := heap()
	store := cache.NewMemory(limit)
	defer store.Close()
	body := cache.Bytes(make([]byte, 1<<20))
	for i := range 100_000 {
		k := cache.Key{App: "wiki", URL: fmt.Sprintf("https://wiki.corp.example/%d", i), Person: "ann"}
		if i%1000 == 0 {
			store.Put(k, cachetest.Entry(string(body)))
		} else {
			store.Put(k, cachetest.Entry("small"))
		}
	}
	if h := store.Held()["wiki"]; h.Bytes > limit || h.Entries == 0 {
		t.Errorf("%+v of %d bytes", h, limit)
	}
	// What is not counted per entry: the store's own tables and sketch.
	if took := heap() - before; took > limit*5/4 {
		t.Errorf("the heap grew by %d bytes for %d", took, limit)
	}
	runtime.KeepAlive(store)
}

// Entries without bodies to speak of cost what they are counted for.
func TestOverheadIsCounted(t *testing.T) {
	before := heap()
	store := cache.NewMemory(64 << 20)
	defer store.Close()
	for i := range 10_000 {
		store.Put(cache.Key{App: "wiki", URL: fmt.Sprintf("https://wiki.corp.example/%d", i), Person: "ann"}, cachetest.Entry("small"))
	}
	took, counted := heap()-before, store.Held()["wiki"].Bytes
	t.Logf("10000 entries take %d bytes, counted as %d", took, counted)
	if took > counted {
		t.Errorf("10000 entries take %d bytes and are counted as %d", took, counted)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
