package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"sallyport/audit"
)

// finish closes the exchange: outcome event, metrics, one log line. A panic of a stage becomes a recorded 500 and a
// closed connection, or only the latter when the answer had begun; so does ReverseProxy's own abort.
func (x *exchange) finish() {
	defer x.server.open.Add(-1)
	abort := recover()
	x.part()
	defer x.leaveConnection()
	defer x.leave()
	if abort != nil && abort != http.ErrAbortHandler {
		err := fmt.Errorf("panic: %v\n%s", abort, debug.Stack())
		if x.w.status == 0 {
			x.refuse(&Refusal{Status: http.StatusInternalServerError, Effect: audit.Reject, Reason: "internal_error",
				Public: "Something went wrong inside the gateway.", Err: err, Close: true})
			abort = nil // net/http drops what it has not sent yet when a handler panics
		} else {
			x.server.log.LogAttrs(x.ctx, slog.LevelError, "answer broken off", slog.String("request_id", x.id), slog.Any("error", err))
		}
	}
	if x.recorded == audit.Allow {
		x.recordOutcome(abort != nil)
	}
	elapsed := x.server.now().Sub(x.start)
	x.server.metrics.observe(x, elapsed)
	x.logLine(elapsed)
	if x.r.ProtoMajor == 2 && x.ctx.Err() == nil {
		x.hurry()
	}
	x.cancel(nil)
	x.dropBody()
	x.linger()
	if abort != nil {
		panic(http.ErrAbortHandler)
	}
}

// lingering is how long a client may go on sending a body that nobody reads any more: long enough to notice the answer.
const lingering = 2 * time.Second

// linger bounds what net/http does next: it reads the rest of an HTTP/1.1 body, however long that takes to arrive, so that
// a stranger could hold a connection for ever by not sending what it announced.
func (x *exchange) linger() {
	if x.r.ProtoMajor == 1 && x.r.ContentLength != 0 && !x.w.hijacked {
		// The error says that the connection cannot, which none of ours is.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(lingering))
	}
}

// answering is how long a client may take to accept the gateway's own answers, and the last bytes of an app's.
const answering = time.Minute

// hurry bounds the writing of what is left to say. net/http waits for ever for a client that takes nothing, in HTTP/2 as
// often on one connection as it allows streams, and strangers get answers too. In HTTP/1.1 what an app's answer leaves to
// net/http holds nothing but its connection.
func (x *exchange) hurry() {
	// The error says that the connection cannot, which none of ours is.
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.server.answering))
}

// recordOutcome says how an allowed exchange ended, not_forwarded and why if the app never saw it. It is posted, not
// waited for: the decision it belongs to is durable already.
func (x *exchange) recordOutcome(aborted bool) {
	outcome := &audit.Outcome{Of: x.receipt.ID, Status: x.w.status, BytesIn: x.bytesIn(), BytesOut: x.w.bytesOut.Load(),
		DurationNS: x.server.now().Sub(x.start).Nanoseconds(), Error: x.outcomeError(aborted)}
	record := &audit.Record{Type: audit.TypeOutcome, RequestID: x.id, Session: x.sessionID(), App: string(x.app.Name), Outcome: outcome}
	if !x.served && x.refusal != nil {
		outcome.Error, record.Reason = audit.NotForwarded, x.refusal.Reason
	}
	x.nameTheApp(outcome)
	if x.blockedCookies.Load() != nil {
		record.Code = "upstream_cookie_blocked"
	}
	// The request may be over; its outcome is recorded all the same.
	if err := x.server.decisions.Post(context.Background(), record); err != nil {
		x.server.metrics.lostOutcomes.Inc()
	}
}

// outcomeError is a fixed code for how the exchange broke off, or empty.
func (x *exchange) outcomeError(aborted bool) string {
	switch cause := context.Cause(x.ctx); {
	case x.refusal != nil:
		return x.refusal.Reason
	case cause != nil && cause != context.Canceled:
		return cause.Error()
	case cause != nil:
		return "client_closed"
	case aborted, x.upstreamErr != nil:
		return "upstream_broke_off"
	}
	return ""
}

// nameTheApp says who answered: the cache or one of the app's addresses.
func (x *exchange) nameTheApp(outcome *audit.Outcome) {
	if x.viewer != nil {
		outcome.Cache = string(x.viewer.Result)
	}
	if hint := x.hint.Load(); hint != nil {
		outcome.Upstream, outcome.Attempts = hint.Address, hint.Attempts
	}
}

func (x *exchange) bytesIn() int64 { return x.w.bytesIn.Load() + x.read.Load() }

// logLine is the one line per request. Everything a client controls is quoted by the handler; queries, which may
// hold secrets, are left to the audit record, which redacts them.
func (x *exchange) logLine(elapsed interface{ Seconds() float64 }) {
	level := slog.LevelInfo
	if x.recorded == counted {
		level = slog.LevelDebug // strangers must not fill this one either
	}
	if !x.server.log.Enabled(x.ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("request_id", x.id), slog.String("method", x.r.Method), slog.Int("status", x.w.status),
		slog.Float64("seconds", elapsed.Seconds()))
	if x.app != nil {
		attrs = append(attrs, slog.String("app", string(x.app.Name)))
	}
	if x.req != nil {
		attrs = append(attrs, slog.String("host", x.req.Host), slog.String("path", x.req.Path))
	}
	if x.refusal != nil {
		attrs = append(attrs, slog.String("reason", x.refusal.Reason))
	}
	x.server.log.LogAttrs(x.ctx, level, "request", attrs...)
}
