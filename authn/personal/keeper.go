package personal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/singleflight"

	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/authn/token"
)

// What Keeper's methods fail with, besides the errors of a context that ended; ask with errors.Is. What Find says of a
// token that is not good is a *token.Refused as well, with a code for the record.
var (
	ErrNoToken     = errors.New("no such token")
	ErrRevoked     = errors.New("the token was revoked")
	ErrExpired     = errors.New("the token has expired")
	ErrResting     = errors.New("the owner's account was not confirmed lately, or is disabled")
	ErrUnavailable = errors.New("the store of tokens is not available")

	ErrDisabled    = errors.New("personal tokens are not enabled")
	ErrTooMany     = errors.New("the person has as many tokens as they may")
	ErrNameTaken   = errors.New("the person has a token of this name")
	ErrInvalid     = errors.New("the token asked for is not one that can be")
	ErrEmptyFilter = errors.New("nothing says which tokens to revoke")
)

// Codes of refused tokens.
const (
	CodeUnknown     = "token_unknown"
	CodeRevoked     = "token_revoked"
	CodeExpired     = "token_expired"
	CodeUnconfirmed = "owner_unconfirmed"
	CodeDisabled    = "owner_disabled"
	CodeOff         = "personal_tokens_off"
)

const (
	// believed is how long what the store said of a token is believed: a token that another process revoked, and an owner
	// whose account was disabled, are felt within it.
	believed = 2 * time.Second
	// followEvery is how often Run asks which tokens others revoked, to end what is open for them.
	followEvery = 2 * time.Second
	// touchEvery is how often times of last use are written down.
	touchEvery = time.Minute
	// keptFor is how long tokens that ended stay listed.
	keptFor      = 30 * 24 * time.Hour
	storeTimeout = 4 * time.Second
	pageSize     = 1000 // tokens that are read from the store at once
	maxReads     = 16   // of the store at once on behalf of requests; others wait

	maxName    = 64
	maxScoped  = 20  // apps, or methods, of one token
	maxScope   = 600 // bytes of their names together, so that a token fits its record
	idLength   = 16
	clockSlack = 30 * time.Second // of revocations that others wrote down by their clock
)

// People says who somebody is, as their identity provider last confirmed (session.Keeper).
type People interface {
	Person(ctx context.Context, subject string) (session.Person, error)
}

// Keeper is all that the gateway uses of personal tokens.
type Keeper struct {
	store  Store
	people People
	now    func() time.Time
	log    *slog.Logger

	memory  token.Memory[*known]
	reading singleflight.Group
	reads   chan struct{}

	mu     sync.Mutex
	config Config
	onEnd  []func(id string)
	used   map[string]time.Time // by id, to be written down
}

// known is a token as the store last had it.
type known struct {
	at      time.Time
	used    atomic.Int64 // Unix nanoseconds of the last use that is written or waits to be
	token   Token
	bearer  *token.Bearer // nil: it is not good
	refused error
}

// New returns a keeper. Config may change later, see Configure.
func New(config Config, store Store, people People, now func() time.Time, log *slog.Logger) *Keeper {
	return &Keeper{store: store, people: people, now: now, log: log, config: config, used: map[string]time.Time{}, reads: make(chan struct{}, maxReads)}
}

// Configure takes effect for what is asked from now on; tokens that exist keep their own dates.
func (k *Keeper) Configure(config Config) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.config == config {
		return
	}
	k.config = config
	k.memory.DeleteFunc(func(*known) bool { return true })
}

// Config is what holds now.
func (k *Keeper) Config() Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.config
}

// OnEnd has f called with the id of each token that was revoked, by whichever process. To be called before Run.
func (k *Keeper) OnEnd(f func(id string)) { k.onEnd = append(k.onEnd, f) }

// Request is a token to be made.
type Request struct {
	Name     string
	Apps     []string // names, or Any alone
	Methods  []string // HTTP methods, or Any alone
	Lifetime time.Duration
	// Record, unless nil, is called with the token when everything has been checked and before it exists. When it fails
	// there is no token.
	Record func(context.Context, Token) error
}

// Create makes a token for a person and returns it, which nobody can do again. ErrDisabled, ErrInvalid, ErrTooMany,
// ErrNameTaken, or what Record said.
func (k *Keeper) Create(ctx context.Context, owner *authn.Identity, r Request) (secret string, t Token, err error) {
	config := k.Config()
	if !config.Enabled {
		return "", Token{}, ErrDisabled
	}
	if t, err = k.asked(config, owner, r); err != nil {
		return "", Token{}, err
	}
	if err := k.room(ctx, t, config.MaxPerPerson); err != nil {
		return "", Token{}, err
	}
	if r.Record != nil {
		if err := r.Record(ctx, t); err != nil {
			return "", Token{}, err
		}
	}
	secret, hash := newSecret()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.PutToken(ctx, hash, t, config.MaxPerPerson); err != nil {
		return "", Token{}, unavailable("storing a token", err)
	}
	return secret, t, nil
}

var methodForm = regexp.MustCompile(`^[A-Z][A-Z-]{0,31}$`)

// asked is the token that a request asks for.
func (k *Keeper) asked(config Config, owner *authn.Identity, r Request) (Token, error) {
	now := k.now()
	t := Token{ID: "pat_" + rand.Text()[:idLength], Owner: owner.ID(), Name: r.Name, Created: now, Expires: now.Add(r.Lifetime)}
	var err error
	switch {
	case owner.Kind != authn.User:
		return t, fmt.Errorf("%w: only people have personal tokens", ErrInvalid)
	case r.Name == "" || utf8.RuneCountInString(r.Name) > maxName || !utf8.ValidString(r.Name) || !printable(r.Name):
		return t, fmt.Errorf("%w: name: want 1 to %d printable characters", ErrInvalid, maxName)
	case r.Lifetime < time.Minute || r.Lifetime > config.MaxLifetime:
		return t, fmt.Errorf("%w: lifetime: want one minute to %v", ErrInvalid, config.MaxLifetime)
	}
	if t.Apps, err = scope(r.Apps); err != nil {
		return t, fmt.Errorf("%w: apps: %w", ErrInvalid, err)
	}
	if t.Methods, err = scope(r.Methods); err != nil {
		return t, fmt.Errorf("%w: methods: %w", ErrInvalid, err)
	}
	for _, m := range t.Methods {
		if m != Any && !methodForm.MatchString(m) {
			return t, fmt.Errorf("%w: methods: %q is none", ErrInvalid, m)
		}
	}
	return t, nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// scope is a list of what a token is for: sorted, each once, and either Any or names.
func scope(names []string) ([]string, error) {
	list := slices.Compact(slices.Sorted(slices.Values(names)))
	size := 0
	for _, name := range list {
		size += len(name)
	}
	switch {
	case len(list) == 0:
		return nil, errors.New("none is named")
	case len(list) > maxScoped || size > maxScope:
		return nil, fmt.Errorf("want at most %d, or all", maxScoped)
	case slices.Contains(list, ""):
		return nil, errors.New("one is empty")
	case len(list) > 1 && slices.Contains(list, Any):
		return nil, errors.New("all and some at once")
	}
	return list, nil
}

// room refuses before anything is recorded what the store would refuse.
func (k *Keeper) room(ctx context.Context, t Token, most int) error {
	have, err := k.List(ctx, Filter{Owner: t.Owner})
	if err != nil {
		return err
	}
	active := slices.DeleteFunc(have, func(t Token) bool { return t.State(k.now()) != Active })
	if slices.ContainsFunc(active, func(other Token) bool { return other.Name == t.Name }) {
		return ErrNameTaken
	}
	if len(active) >= most {
		return ErrTooMany
	}
	return nil
}

// List returns the tokens that match, newest first, those that ended within the last month among them. However many there
// are, it is all of them: whoever revokes by what a list says must not leave any.
func (k *Keeper) List(ctx context.Context, f Filter) ([]Token, error) {
	var list []Token
	for after := (Token{}); ; {
		page, err := k.page(ctx, f, after)
		if err != nil {
			return nil, unavailable("listing tokens", err)
		}
		list = append(list, page...)
		if len(page) < pageSize {
			break
		}
		after = page[len(page)-1]
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range list {
		if used := k.used[list[i].ID]; used.After(list[i].Used) {
			list[i].Used = used
		}
	}
	return list, nil
}

func (k *Keeper) page(ctx context.Context, f Filter, after Token) ([]Token, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return k.store.Tokens(ctx, f, after, pageSize)
}

// Revoke ends the tokens that match, for good, and what is open for them, and returns those that it ended. Whoever asks
// has recorded it before.
func (k *Keeper) Revoke(ctx context.Context, f Filter) ([]Token, error) {
	if f.empty() {
		return nil, ErrEmptyFilter
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	gone, err := k.store.RevokeTokens(ctx, f, k.now())
	if err != nil {
		return nil, unavailable("revoking tokens", err)
	}
	ids := make([]string, len(gone))
	for i := range gone {
		ids[i] = gone[i].ID
	}
	k.ended(ids)
	return gone, nil
}

// ended forgets tokens and ends what is open for them.
func (k *Keeper) ended(ids []string) {
	if len(ids) == 0 {
		return
	}
	k.memory.DeleteFunc(func(t *known) bool { return slices.Contains(ids, t.token.ID) })
	for _, id := range ids {
		for _, f := range k.onEnd {
			f(id)
		}
	}
}

// Find returns the token that a program showed, and who it stands for. Of a token that is not good the error says why:
// ErrNoToken, ErrRevoked, ErrExpired or ErrResting; ErrUnavailable when nobody can tell.
func (k *Keeper) Find(ctx context.Context, secret string) (Token, *authn.Identity, error) {
	found, err := k.find(ctx, secret)
	if err != nil {
		return Token{}, nil, err
	}
	return found.token, found.bearer.Session.Identity, nil
}

// Bearer is Find for the gateway: the same value for as long as nothing changed.
func (k *Keeper) Bearer(ctx context.Context, secret string) (*token.Bearer, error) {
	found, err := k.find(ctx, secret)
	if err != nil {
		return nil, err
	}
	return found.bearer, nil
}

// Recalls reports whether the token was good when it was last looked at, not long ago: it is no stranger's guess.
func (k *Keeper) Recalls(secret string) bool {
	hash, ok := read(secret)
	if !ok {
		return false
	}
	had, ok := k.memory.Get(hash)
	return ok && had.bearer != nil
}

func (k *Keeper) find(ctx context.Context, secret string) (*known, error) {
	hash, ok := read(secret)
	if !ok {
		return nil, &token.Refused{Code: CodeUnknown, Err: ErrNoToken}
	}
	had, ok := k.memory.Get(hash)
	if ok && k.now().Sub(had.at) < believed {
		return k.use(had)
	}
	found := k.reading.DoChan(string(hash[:]), func() (any, error) { return k.read(hash, had) })
	select {
	case <-ctx.Done():
		return nil, unavailable("reading a token", ctx.Err())
	case r := <-found:
		if r.Err != nil {
			return nil, r.Err
		}
		return k.use(r.Val.(*known))
	}
}

// use notes that the token was used.
func (k *Keeper) use(t *known) (*known, error) {
	now := k.now()
	if t.bearer == nil {
		return nil, t.refused
	}
	if !now.Before(t.token.Expires) {
		return nil, &token.Refused{Code: CodeExpired, Err: ErrExpired}
	}
	if last := t.used.Load(); now.UnixNano()-last >= int64(touchEvery) && t.used.CompareAndSwap(last, now.UnixNano()) {
		k.mu.Lock()
		k.used[t.token.ID] = now.Truncate(touchEvery)
		k.mu.Unlock()
	}
	return t, nil
}

// read asks the store. What it says is remembered, good or not.
func (k *Keeper) read(hash Hash, had *known) (*known, error) {
	k.reads <- struct{}{}
	defer func() { <-k.reads }()
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	config, now := k.Config(), k.now()
	t, err := k.store.Token(ctx, hash)
	if err != nil && !errors.Is(err, ErrNoToken) {
		return nil, unavailable("reading a token", err)
	}
	made := &known{at: now, token: t}
	if !t.Used.IsZero() {
		made.used.Store(t.Used.UnixNano())
	}
	if had != nil {
		made.used.Store(max(made.used.Load(), had.used.Load()))
	}
	if made.refused = judge(config, &t, err, now); made.refused == nil {
		who, err := k.owner(ctx, config, t.Owner, now)
		if errors.Is(err, ErrUnavailable) {
			return nil, err
		}
		if made.refused = err; err == nil {
			made.bearer = bearer(&t, who, now, had)
		}
	}
	k.memory.Put(hash, made)
	return made, nil
}

// judge is what there is against a token itself.
func judge(config Config, t *Token, err error, now time.Time) error {
	switch {
	case !config.Enabled:
		return &token.Refused{Code: CodeOff, Err: ErrDisabled}
	case err != nil:
		return &token.Refused{Code: CodeUnknown, Err: ErrNoToken}
	case t.State(now) == Revoked:
		return &token.Refused{Code: CodeRevoked, Err: ErrRevoked}
	case t.State(now) == Expired:
		return &token.Refused{Code: CodeExpired, Err: ErrExpired}
	}
	return nil
}

// owner is the person that a token stands for, as their provider last spoke of them. How they proved themselves then says
// nothing of who sends the token: it counts for no assurance.
func (k *Keeper) owner(ctx context.Context, config Config, subject string, now time.Time) (*authn.Identity, error) {
	p, err := k.people.Person(ctx, subject)
	switch {
	case errors.Is(err, session.ErrNoPerson):
		return nil, &token.Refused{Code: CodeUnconfirmed, Err: ErrResting}
	case err != nil:
		return nil, unavailable("reading the owner of a token", err)
	case p.Disabled:
		return nil, &token.Refused{Code: CodeDisabled, Err: ErrResting}
	case now.Sub(p.Confirmed) >= config.Confirm:
		return nil, &token.Refused{Code: CodeUnconfirmed, Err: ErrResting}
	}
	who := *p.Identity
	who.ACR, who.AMR, who.AuthTime, who.MFA = "", nil, time.Time{}, false
	return &who, nil
}

// bearer is the one there was, if nothing changed: what is derived of it need not be made again.
func bearer(t *Token, who *authn.Identity, now time.Time, had *known) *token.Bearer {
	if had != nil && had.bearer != nil && reflect.DeepEqual(had.bearer.Session.Identity, who) {
		return had.bearer
	}
	return &token.Bearer{ID: t.ID, Kind: token.Personal, Name: t.Name, Apps: t.Apps, Methods: t.Methods, Expires: t.Expires,
		Session: session.ForMachine(t.ID, who, now)}
}

// Run follows what other processes revoke, and writes down when tokens were used, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	follow, touch := time.NewTicker(followEvery), time.NewTicker(touchEvery)
	defer follow.Stop()
	defer touch.Stop()
	since, swept := k.now(), time.Time{}
	told := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			k.flush(context.WithoutCancel(ctx))
			return nil
		case <-follow.C:
			since = k.follow(ctx, since, told)
		case <-touch.C:
			k.flush(ctx)
			if now := k.now(); now.Sub(swept) >= time.Hour {
				k.sweep(ctx, now)
				swept = now
			}
		}
	}
}

// follow ends what is open for tokens that were revoked since a time, and returns from when to ask next. What was told
// once is not told again.
func (k *Keeper) follow(ctx context.Context, since time.Time, told map[string]time.Time) time.Time {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	now := k.now()
	ids, err := k.store.RevokedTokens(ctx, since.Add(-clockSlack))
	if err != nil {
		if ctx.Err() == nil {
			k.log.Warn("cannot tell which personal tokens were revoked", "error", err)
		}
		return since
	}
	var news []string
	for _, id := range ids {
		if _, had := told[id]; !had {
			news = append(news, id)
		}
		told[id] = now
	}
	for id, at := range told {
		if at != now {
			delete(told, id)
		}
	}
	k.ended(news)
	return now
}

func (k *Keeper) flush(ctx context.Context) {
	k.mu.Lock()
	used := k.used
	k.used = map[string]time.Time{}
	k.mu.Unlock()
	if len(used) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.TouchTokens(ctx, used); err != nil {
		k.log.Warn("cannot write down when personal tokens were used", "error", err)
	}
}

func (k *Keeper) sweep(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.SweepTokens(ctx, now.Add(-keptFor)); err != nil {
		k.log.Warn("cannot forget old personal tokens", "error", err)
	}
}

// unavailable keeps the errors that callers know, and makes all others ErrUnavailable.
func unavailable(doing string, err error) error {
	for _, known := range []error{ErrTooMany, ErrNameTaken} {
		if errors.Is(err, known) {
			return known
		}
	}
	return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
}
