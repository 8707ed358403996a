package bundle

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestABundleIsFetchedOnceForEachETag(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("If-None-Match")+" "+r.Header.Get("Authorization"))
		w.Header().Set("ETag", `"v1"`)
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, "the bundle")
	}))
	defer server.Close()
	first, err := Fetch(t.Context(), server.URL, "s3cret", "")
	if err != nil || string(first.Archive) != "the bundle" || first.ETag != `"v1"` {
		t.Fatalf("got %+v, %v", first, err)
	}
	if again, err := Fetch(t.Context(), server.URL, "", first.ETag); again != nil || err != nil {
		t.Errorf("not changed: %+v, %v", again, err)
	}
	if len(asked) != 2 || asked[0] != " Bearer s3cret" || asked[1] != `"v1" ` {
		t.Errorf("asked %q", asked)
	}
}

func TestHalfADownloadIsNoBundle(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"cut off": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "half")
		},
		"cut off between chunks": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"too long": func(w http.ResponseWriter, r *http.Request) {
			block := make([]byte, 1<<20)
			for range maxBytes>>20 + 1 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		},
	} {
		server := httptest.NewServer(serve)
		got, err := Fetch(t.Context(), server.URL, "", "")
		if err == nil || errors.Is(err, ErrUnavailable) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
}

func TestAServerThatCannotBeAskedIsUnavailable(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer secure.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, address := range map[string]string{"not there": plain.URL, "a certificate of nobody's": secure.URL, "gone": gone.URL} {
		if _, err := Fetch(t.Context(), address, "", ""); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for address, fine := range map[string][3]bool{ // unsigned, signed, signed and with a token
		"https://policies.corp.example/b.tar.gz": {true, true, true},
		"http://policies.corp.example/b.tar.gz":  {false, true, false},
		"http://127.0.0.1:8080/b":                {true, true, true},
		"http://[::1]/b":                         {true, true, true},
		"http://localhost/b":                     {true, true, true},
		"http://127.0.0.1.evil.example/b":        {false, true, false},
		"https://":                               {false, false, false},
		"https://user:secret@corp.example/b":     {false, false, false},
	} {
		for i, want := range fine {
			if err := CheckAddress(address, i > 0, Secret([]string{"", "", "s3cret"}[i])); (err == nil) != want {
				t.Errorf("%s, case %d: %v", address, i, err)
			}
		}
	}
}
