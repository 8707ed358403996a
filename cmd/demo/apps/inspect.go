package apps

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	_ "embed"
)

//go:embed inspect.html
var inspectHTML string

// header is one header line as the app received it.
type header struct{ Name, Value string }

// NewInspect makes an app that shows exactly what an app receives. A path that ends in .json answers with JSON.
func NewInspect(gate *Gatekeeper) http.Handler {
	page := newPage("Inspect", "", inspectHTML)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visitor, err := gate.Visitor(r)
		seen := receive(r)
		if err != nil {
			seen.Problem = err.Error()
		}
		if strings.HasSuffix(r.URL.Path, ".json") {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			json.NewEncoder(w).Encode(seen) // the client may have gone; there is nobody else to tell
			return
		}
		page.show(w, http.StatusOK, "seen", visitor, seen)
	})
}

// seen is a request as the app received it.
type seen struct {
	Method   string   `json:"method"`
	Target   string   `json:"target"` // the request line's, byte for byte
	Protocol string   `json:"protocol"`
	Host     string   `json:"host"`
	Gateway  []header `json:"gateway"`           // headers that only the gateway can have written
	Client   []header `json:"client"`            // headers that came from the browser, as far as the gateway let them
	Claims   string   `json:"claims,omitempty"`  // of the assertion, indented
	Problem  string   `json:"problem,omitempty"` // why the assertion proves nothing
}

func receive(r *http.Request) seen {
	s := seen{Method: r.Method, Target: r.RequestURI, Protocol: r.Proto, Host: r.Host, Claims: claims(r.Header.Get("X-Sallyport-Assertion"))}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			if ofGateway(name) {
				s.Gateway = append(s.Gateway, header{name, value})
			} else {
				s.Client = append(s.Client, header{name, value})
			}
		}
	}
	return s
}

func ofGateway(name string) bool {
	return strings.HasPrefix(name, "X-Sallyport-") || strings.HasPrefix(name, "X-Forwarded-") || name == "X-Request-Id"
}

// claims is the middle part of a JWT, for reading only: the Gatekeeper says whether it is true.
func claims(jwt string) string {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var indented bytes.Buffer
	if json.Indent(&indented, payload, "", "  ") != nil {
		return ""
	}
	return indented.String()
}
