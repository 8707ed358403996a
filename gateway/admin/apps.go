package admin

import (
	"errors"
	"net/http"
)

// ErrUnknown says that a call names something the gateway does not have.
var ErrUnknown = errors.New("unknown")

// Purge selects stored answers: all of an app, or those of one public URL, or those whose public URL begins with a
// prefix, of one app or of all.
type Purge struct {
	App    string `json:"app,omitzero"`
	URL    string `json:"url,omitzero"`
	Prefix string `json:"prefix,omitzero"`
}

// Check refuses a purge that names nothing, or two things.
func (p Purge) Check() error {
	switch {
	case p.URL != "" && p.Prefix != "":
		return errors.New("a purge names a URL or a prefix, not both")
	case p.App == "" && p.URL == "" && p.Prefix == "":
		return errors.New("a purge names an app, a URL or a prefix")
	}
	return nil
}

// Purged is what a purge dropped.
type Purged struct {
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// Drain takes an address of an app out of service, or puts it back: requests under way finish, new ones go elsewhere.
type Drain struct {
	App     string `json:"app"`
	Address string `json:"address"` // as listed, or the id of the list
	Undo    bool   `json:"undo,omitzero"`
}

func (s *operatorServer) purge(w http.ResponseWriter, r *http.Request) {
	var what Purge
	if !read(w, r, &what) {
		return
	}
	if err := what.Check(); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if !s.recorded(w, r, CodePurge, what) {
		return
	}
	purged, err := s.Gateway.Purge(r.Context(), what)
	if err != nil {
		s.failed(w, r, CodePurge, statusOf(err), err)
		return
	}
	s.note(r, CodePurged, purged)
	answer(w, purged)
}

func (s *operatorServer) upstreams(w http.ResponseWriter, r *http.Request) {
	answer(w, append([]Upstream{}, s.Gateway.Upstreams()...))
}

func (s *operatorServer) drain(w http.ResponseWriter, r *http.Request) {
	var what Drain
	if !read(w, r, &what) || !s.recorded(w, r, CodeDrain, what) {
		return
	}
	if err := s.Gateway.Drain(r.Context(), what); err != nil {
		s.failed(w, r, CodeDrain, statusOf(err), err)
		return
	}
	answer(w, append([]Upstream{}, s.Gateway.Upstreams()...))
}

func statusOf(err error) int {
	if errors.Is(err, ErrUnknown) {
		return http.StatusUnprocessableEntity
	}
	return http.StatusServiceUnavailable
}
