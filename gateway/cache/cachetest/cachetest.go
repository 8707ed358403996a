// Package cachetest is the conformance suite of cache.Store: every implementation runs it.
package cachetest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/gateway/cache"
)

// Run holds a store to the contract of cache.Store. open makes an empty store of at most so many bytes; Run closes it.
func Run(t *testing.T, open func(t *testing.T, bytes int64) cache.Store) {
	for name, test := range map[string]func(*testing.T, cache.Store){
		"EntriesComeBackAsTheyWere": entriesComeBack,
		"KeysAreTheirWholeSelves":   keysAreWhole,
		"VariantsLiveSideBySide":    variants,
		"Replace":                   replace,
		"Purge":                     purge,
		"HeldIsWhatIsThere":         held,
		"AllAtOnce":                 allAtOnce,
	} {
		t.Run(name, func(t *testing.T) {
			store := open(t, 64<<20)
			defer store.Close()
			test(t, store)
		})
	}
	t.Run("StaysWithinItsBytes", func(t *testing.T) {
		const limit = 1 << 20
		store := open(t, limit)
		defer store.Close()
		bounded(t, store, limit)
	})
}

// Entry is an entry with a body, made for a request with header fields "Name: value" of which it varies by the names.
func Entry(body string, request ...string) *cache.Entry {
	now := time.Now()
	h := http.Header{"Cache-Control": {"max-age=60"}, "Date": {now.UTC().Format(http.TimeFormat)}}
	asked := http.Header{}
	for _, field := range request {
		name, value, _ := strings.Cut(field, ": ")
		asked.Set(name, value)
		h.Add("Vary", name)
	}
	return cache.NewEntry(cache.Answer{Status: 200, Header: h, Body: cache.Bytes(body), Request: asked, Asked: now, Received: now})
}

func key(url string) cache.Key { return cache.Key{App: "wiki", URL: url} }

func bodies(entries []*cache.Entry) string {
	var all []string
	for _, e := range entries {
		b := e.Body()
		text, err := io.ReadAll(b.Open(0, b.Size()))
		if err != nil {
			return err.Error()
		}
		all = append(all, string(text))
	}
	return strings.Join(all, " ")
}

func want(t *testing.T, store cache.Store, k cache.Key, text string) {
	t.Helper()
	if got := bodies(store.Get(k)); got != text {
		t.Errorf("under %+v there is %q, want %q", k, got, text)
	}
}

func entriesComeBack(t *testing.T, store cache.Store) {
	k := key("https://a/")
	want(t, store, k, "")
	e := Entry("body")
	store.Put(k, e)
	want(t, store, k, "body")
	got := store.Get(k)[0]
	if fmt.Sprint(got.Header()) != fmt.Sprint(e.Header()) || got.Status != 200 || got.Size() != e.Size() {
		t.Errorf("got %v, want %v", got.Header(), e.Header())
	}
	store.Put(k, Entry("newer"))
	want(t, store, k, "newer")
}

func keysAreWhole(t *testing.T, store cache.Store) {
	base := cache.Key{App: "wiki", URL: "https://a/", Person: "ann", Told: [32]byte{1}}
	store.Put(base, Entry("base"))
	for _, change := range []func(*cache.Key){
		func(k *cache.Key) { k.App = "chat" },
		func(k *cache.Key) { k.URL = "https://a/b" },
		func(k *cache.Key) { k.Person = "bob" },
		func(k *cache.Key) { k.Person = "" },
		func(k *cache.Key) { k.Told[31] = 1 },
		func(k *cache.Key) { k.Scope = cache.Shared },
		func(k *cache.Key) { k.Scope = cache.Free },
		func(k *cache.Key) { k.App, k.URL = "", "wikihttps://a/" },
	} {
		other := base
		change(&other)
		want(t, store, other, "")
	}
	want(t, store, base, "base")
}

func variants(t *testing.T, store cache.Store) {
	k := key("https://a/")
	store.Put(k, Entry("one", "Foo: 1"))
	store.Put(k, Entry("two", "Foo: 2"))
	want(t, store, k, "two one")
	store.Put(k, Entry("uno", "Foo: 1"))
	want(t, store, k, "uno two")
	store.Put(k, Entry("for all"))
	want(t, store, k, "for all")
	store.Put(k, Entry("one", "Foo: 1"))
	want(t, store, k, "one for all")
	for i := range 1000 {
		store.Put(k, Entry("made up", fmt.Sprint("Foo: ", i)))
	}
	if n := len(store.Get(k)); n > 100 {
		t.Errorf("one key holds %d variants, which every look-up walks over", n)
	}
}

func replace(t *testing.T, store cache.Store) {
	k := key("https://a/")
	one, two := Entry("one", "Foo: 1"), Entry("two", "Foo: 2")
	if store.Replace(k, one, two) {
		t.Error("something took the place of nothing")
	}
	store.Put(k, one)
	store.Put(k, two)
	if !store.Replace(k, one, Entry("new", "Foo: 1")) {
		t.Error("not replaced")
	}
	want(t, store, k, "two new")
	if store.Replace(k, one, nil) {
		t.Error("what is gone was removed")
	}
	if !store.Replace(k, two, nil) {
		t.Error("not removed")
	}
	want(t, store, k, "new")
	if !store.Replace(k, store.Get(k)[0], nil) {
		t.Error("the last was not removed")
	}
	want(t, store, k, "")
}

func purge(t *testing.T, store cache.Store) {
	for _, url := range []string{"https://a/1", "https://a/2", "https://b/1"} {
		for _, person := range []string{"ann", "bob"} {
			k := key(url)
			k.Person = person
			store.Put(k, Entry("body"))
		}
	}
	entries, bytes := store.Purge(func(k cache.Key) bool { return strings.HasPrefix(k.URL, "https://a/") })
	if entries != 4 || bytes < 4*int64(len("body")) {
		t.Errorf("purged %d entries of %d bytes, want 4", entries, bytes)
	}
	if entries, bytes = store.Purge(func(cache.Key) bool { return false }); entries != 0 || bytes != 0 {
		t.Errorf("purged %d entries, %d bytes that did not match", entries, bytes)
	}
	if h := store.Held()["wiki"]; h.Entries != 2 {
		t.Errorf("%d are left, want 2", h.Entries)
	}
}

func held(t *testing.T, store cache.Store) {
	k := key("https://a/")
	store.Put(k, Entry(strings.Repeat("x", 1000), "Foo: 1"))
	store.Put(k, Entry(strings.Repeat("x", 1000), "Foo: 2"))
	chat := k
	chat.App = "chat"
	store.Put(chat, Entry("body"))
	all := store.Held()
	if h := all["wiki"]; h.Entries != 2 || h.Bytes < 2000 {
		t.Errorf("held %+v", h)
	}
	if h := all["chat"]; h.Entries != 1 {
		t.Errorf("the other app holds %+v", h)
	}
	store.Purge(func(cache.Key) bool { return true })
	for app, h := range store.Held() {
		if h.Entries != 0 || h.Bytes != 0 {
			t.Errorf("%s still holds %+v", app, h)
		}
	}
}

func allAtOnce(t *testing.T, store cache.Store) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				k := key(fmt.Sprint("https://a/", j%17))
				store.Put(k, Entry("body", fmt.Sprint("Foo: ", i)))
				for _, e := range store.Get(k) {
					if bodies([]*cache.Entry{e}) != "body" {
						t.Error("an entry changed")
					}
					if j%3 == 0 {
						store.Replace(k, e, nil)
					}
				}
				if j%100 == 0 {
					store.Purge(func(k cache.Key) bool { return strings.HasSuffix(k.URL, "/3") })
				}
			}
		})
	}
	wg.Wait()
	store.Purge(func(cache.Key) bool { return true })
	if h := store.Held()["wiki"]; h.Entries != 0 || h.Bytes != 0 {
		t.Errorf("it counts %+v when nothing is left", h)
	}
}

// bounded is CACHE-23: far more than fits, from several sides, never takes more than was allowed by more than what is
// under way.
func bounded(t *testing.T, store cache.Store, limit int64) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 2000 {
				store.Put(key(fmt.Sprintf("https://a/%d/%d", i, j)), Entry(strings.Repeat("x", 1+j%4096)))
				if h := store.Held()["wiki"]; h.Bytes > limit+limit/4 {
					t.Errorf("%d bytes are held of %d", h.Bytes, limit)
					return
				}
			}
		})
	}
	wg.Wait()
	h := store.Held()["wiki"]
	if h.Bytes > limit || h.Entries == 0 || h.Evicted == 0 {
		t.Errorf("held in the end: %+v of %d bytes", h, limit)
	}
	store.Put(key("https://a/huge"), Entry(strings.Repeat("x", int(limit))))
	if h := store.Held()["wiki"]; h.Bytes > limit || h.Entries < 2 {
		t.Errorf("one entry as large as all pushed out the others: %+v", h)
	}
}
