package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
)

const (
	// maxBody bounds the body of a call, but for those that carry a policy.
	maxBody = 64 << 10
	// headTime is how long a caller may take to say what it wants.
	headTime = 5 * time.Second
	// drainTime is how long calls may run on when the gateway stops.
	drainTime = 5 * time.Second
	// maxReason bounds what a record says of a failure, so that it fits; the caller is told everything.
	maxReason = 8 << 10
	// maxListed bounds the session ids that one record of a revocation names.
	maxListed = 500
)

// The codes of control records for what operators do. A call that then fails is followed by a record of the same code
// with "_failed" behind it.
const (
	CodeReload  = "reload"          // the configuration is read again
	CodeRevoke  = "sessions_revoke" // sessions are ended; detail: the filter
	CodeRevoked = "sessions_revoked"
	CodeRead    = "log_read"       // someone is about to read the logs; detail: what they asked for
	CodeBackup  = "backup"         // the state is copied
	CodePurge   = "cache_purge"    // answers are dropped from the cache; detail: which
	CodePurged  = "cache_purged"   // what that was
	CodeDrain   = "upstream_drain" // an app's address gets no more requests, or gets them again
	CodeRefused = "admin_refused"

	CodeBundle            = "bundle_signed"      // an evidence bundle's manifest is signed; detail: its digest
	CodeRenew             = "certificate_renew"  // a certificate is replaced before its time; detail: the host
	CodeRevokeCertificate = "certificate_revoke" // the authority is asked to revoke a certificate; detail: the host and why

	CodeReindex = "audit_reindex" // the searchable copy of the log is built anew
)

// operatorServer answers on the Unix socket.
type operatorServer struct {
	Options
	listener *socket
	group    uint32 // may operate the gateway
	disclose uint32 // may see personal data in exports
}

func openOperator(path string, group, disclose uint32, opts Options) (*operatorServer, error) {
	listener, err := listenSocket(path, group)
	if err != nil {
		return nil, err
	}
	return &operatorServer{Options: opts, listener: listener, group: group, disclose: disclose}, nil
}

func (s *operatorServer) close() error { return s.listener.Close() }

func (s *operatorServer) run(ctx context.Context) error {
	// No ReadTimeout: net/http would cancel a reload or a backup that takes longer than it. Bodies are small, and only
	// those who may operate the gateway get as far as sending one.
	server := &http.Server{
		Handler:           s.handler(),
		ConnContext:       withPeer,
		ReadHeaderTimeout: headTime,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	return serveUntil(ctx, server, s.listener)
}

// handler is every call there is.
func (s *operatorServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/sessions", s.list)
	mux.HandleFunc("POST /v1/sessions/revoke", s.revoke)
	mux.HandleFunc("GET /v1/tokens", s.tokens)
	mux.HandleFunc("POST /v1/tokens/revoke", s.revokeTokens)
	mux.HandleFunc("POST /v1/reload", s.reload)
	mux.HandleFunc("GET /v1/policies", s.policies)
	mux.HandleFunc("POST /v1/policies/use", s.usePolicy)
	mux.HandleFunc("POST /v1/policies/release", s.releasePolicy)
	mux.HandleFunc("POST /v1/audit/read", s.announceRead)
	mux.HandleFunc("POST /v1/audit/review", s.review)
	mux.HandleFunc("POST /v1/audit/manifest", s.signManifest)
	mux.HandleFunc("GET /v1/audit/trust", s.trustKeys)
	mux.HandleFunc("POST /v1/audit/reindex", s.reindex)
	mux.HandleFunc("POST /v1/backup", s.backup)
	mux.HandleFunc("POST /v1/cache/purge", s.purge)
	mux.HandleFunc("GET /v1/policy/shadow", s.shadow)
	mux.HandleFunc("POST /v1/policy/shadow/start", s.startShadow)
	mux.HandleFunc("POST /v1/policy/shadow/stop", s.stopShadow)
	mux.HandleFunc("POST /v1/policy/shadow/promote", s.promoteShadow)
	mux.HandleFunc("GET /v1/certificates", s.renewals)
	mux.HandleFunc("POST /v1/certificates/renew", s.renew)
	mux.HandleFunc("POST /v1/certificates/revoke", s.revokeCertificate)
	mux.HandleFunc("GET /v1/upstreams", s.upstreams)
	mux.HandleFunc("POST /v1/upstreams/drain", s.drain)
	return s.authorised(s.noBrowser(mux))
}

// noBrowser refuses what a web page made its visitor's browser ask: browsers cannot open a Unix socket, but operators
// forward it to a port, and the caller is then the operator. Browsers say that they are some (Fetch Metadata §2, RFC 6454
// §7.3); where they do not, which is a GET of a plain page whose name was made to lead here, the name says it.
func (s *operatorServer) noBrowser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page := r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Origin") != "" || r.Host != socketHost && isNamed(r.Host)
		if page {
			s.note(r, CodeRefused, map[string]string{"method": r.Method, "path": r.URL.Path, "origin": r.Header.Get("Origin"), "host": r.Host})
			fail(w, http.StatusForbidden, "browsers may not operate the gateway")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authorised lets only those in who may operate the gateway. An account that may not is on record.
func (s *operatorServer) authorised(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, known := peerFrom(r)
		if !known {
			fail(w, http.StatusForbidden, "it is not known who is calling")
			return
		}
		if !p.may(s.group) {
			s.note(r, CodeRefused, map[string]string{"method": r.Method, "path": r.URL.Path})
			fail(w, http.StatusForbidden, "this account may not operate the gateway: root, the gateway's own account and the members of admin.group may")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *operatorServer) status(w http.ResponseWriter, r *http.Request) {
	status := s.Gateway.Status(r.Context())
	// Lists are lists for programs, empty ones too.
	status.Certificates = append([]Certificate{}, status.Certificates...)
	status.Renewals = append([]Renewal{}, status.Renewals...)
	status.Providers = append([]Provider{}, status.Providers...)
	status.Upstreams = append([]Upstream{}, status.Upstreams...)
	status.Audit.Sinks = append([]SinkStatus{}, status.Audit.Sinks...)
	answer(w, status)
}

func (s *operatorServer) list(w http.ResponseWriter, r *http.Request) {
	filter, err := filterFromQuery(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	hosts := s.Gateway.AppHosts()
	wanted, err := filter.session(hosts)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	found, err := s.Sessions.List(r.Context(), wanted)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, listed(found, hosts))
}

func (s *operatorServer) revoke(w http.ResponseWriter, r *http.Request) {
	var filter Filter
	if !read(w, r, &filter) || !s.recorded(w, r, CodeRevoke, filter) {
		return
	}
	wanted, err := filter.session(s.Gateway.AppHosts())
	if err != nil {
		s.failed(w, r, CodeRevoke, http.StatusBadRequest, err)
		return
	}
	ended, err := s.Sessions.Revoke(r.Context(), wanted)
	if err != nil {
		s.failed(w, r, CodeRevoke, revokeStatus(err), err)
		return
	}
	s.note(r, CodeRevoked, revoked(ended))
	answer(w, sessionsFrom(ended))
}

func revokeStatus(err error) int {
	if errors.Is(err, session.ErrEmptyFilter) {
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

// revokedDetail names what a revocation ended, as far as one record has room for it.
type revokedDetail struct {
	Count    int      `json:"count"`
	Sessions []string `json:"sessions"`
}

func revoked(ended []session.Session) revokedDetail {
	detail := revokedDetail{Count: len(ended), Sessions: []string{}}
	for _, one := range ended[:min(len(ended), maxListed)] {
		detail.Sessions = append(detail.Sessions, one.ID)
	}
	return detail
}

func (s *operatorServer) reload(w http.ResponseWriter, r *http.Request) {
	if !read(w, r, &struct{}{}) || !s.recorded(w, r, CodeReload, nil) {
		return
	}
	p, _ := peerFrom(r)
	// Half a reload is none: it is not given up when the caller goes away.
	if err := s.Gateway.Reload(context.WithoutCancel(r.Context()), p.actor()); err != nil {
		s.failed(w, r, CodeReload, http.StatusUnprocessableEntity, err)
		return
	}
	answer(w, struct{}{})
}

func (s *operatorServer) backup(w http.ResponseWriter, r *http.Request) {
	if !read(w, r, &struct{}{}) || !s.recorded(w, r, CodeBackup, nil) {
		return
	}
	copied, err := s.Gateway.Backup(r.Context())
	if err != nil {
		s.failed(w, r, CodeBackup, http.StatusServiceUnavailable, err)
		return
	}
	defer copied.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, copied)
}

// recorded writes down what is about to be done. Without a record nothing is done.
func (s *operatorServer) recorded(w http.ResponseWriter, r *http.Request, code string, detail any) bool {
	if err := s.record(r, code, detail); err != nil {
		fail(w, http.StatusServiceUnavailable, "not done, because it cannot be recorded: "+err.Error())
		return false
	}
	return true
}

// failed writes down that what was begun did not succeed, and says so.
func (s *operatorServer) failed(w http.ResponseWriter, r *http.Request, code string, status int, err error) {
	text := err.Error()
	s.note(r, code+"_failed", map[string]string{"error": text[:min(len(text), maxReason)]})
	fail(w, status, err.Error())
}

// note records what has happened already: it cannot be undone when the log refuses.
func (s *operatorServer) note(r *http.Request, code string, detail any) {
	if err := s.record(r, code, detail); err != nil {
		s.Log.ErrorContext(r.Context(), "recording an operator's action failed", "code", code, "error", err)
	}
}

func (s *operatorServer) record(r *http.Request, code string, detail any) error {
	p, _ := peerFrom(r)
	made := &audit.Record{Type: audit.TypeControl, Code: code, Actor: p.actor()}
	if detail != nil {
		text, err := json.Marshal(detail)
		if err != nil {
			return fmt.Errorf("describing the action: %w", err)
		}
		made.Detail = text
	}
	// What the caller waits for and what is on record must not come apart when the caller goes away.
	_, err := s.Control.Append(context.WithoutCancel(r.Context()), made)
	return err
}

// read decodes the body: one JSON object with the known fields. A call by a form or without a type is refused.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	return readUpTo(w, r, maxBody, into)
}

// readUpTo is read for bodies of as many bytes.
func readUpTo(w http.ResponseWriter, r *http.Request, most int64, into any) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "the body must be application/json")
		return false
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		fail(w, http.StatusBadRequest, "reading the body: "+err.Error())
		return false
	}
	if decoder.More() {
		fail(w, http.StatusBadRequest, "reading the body: more than one value")
		return false
	}
	return true
}

// problem is the body of every answer that is not a success.
type problem struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, value any) { write(w, http.StatusOK, value) }

func fail(w http.ResponseWriter, status int, text string) { write(w, status, problem{text}) }

func write(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(value) // the caller may be gone: nobody to tell
}
