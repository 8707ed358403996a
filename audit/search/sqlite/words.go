package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"sallyport/audit/search"
)

const (
	// maxKinds bounds the kinds: a policy that makes up its reasons must not make a table of them. Rows beyond are doubtful.
	maxKinds = 20_000
	// maxText bounds, in bytes, what is kept of a text: rows with longer ones are doubtful.
	maxText = 512
	// maxRemembered bounds the persons and words that a process keeps in memory.
	maxRemembered = 100_000

	doubtful = 0 // kind of rows of which nothing is known for sure
)

// kind is the combination of a row's columns that have few values.
type kind struct{ app, typ, code, effect, reason, method string }

// person is the combination of who a row is about and who did it.
type person struct{ subject, email, actor, name string }

// words remembers ids that are in the file: they never change there, and none goes.
type words struct {
	kinds   map[kind]int64
	persons map[person]int64
	texts   map[string]int64
}

func newWords() *words {
	return &words{map[kind]int64{}, map[person]int64{}, map[string]int64{}}
}

// methods are those that get a kind of their own; strangers may send any word.
const methods = " GET HEAD POST PUT PATCH DELETE OPTIONS CONNECT TRACE "

const otherMethod = "*"

func methodOf(method string) string {
	if method == "" || strings.Contains(methods, " "+method+" ") {
		return method
	}
	return otherMethod
}

// kindOf is a row's kind; false when it is a doubtful one.
func kindOf(r *search.Row) (kind, bool) {
	k := kind{r.App, r.Type, r.Code, r.Effect, r.Reason, methodOf(r.Method)}
	for _, text := range []string{k.app, k.typ, k.code, k.effect, k.reason, r.Subject, r.Email, r.Actor, r.ActorName, r.Policy, r.Boot} {
		if len(text) > maxText {
			return k, false
		}
	}
	return k, !r.Doubtful
}

// kindID is the id of a row's kind, which is made if need be.
func (w *words) kindID(ctx context.Context, tx *sql.Tx, r *search.Row) (int64, error) {
	k, sure := kindOf(r)
	if !sure {
		return doubtful, nil
	}
	if id, ok := w.kinds[k]; ok {
		return id, nil
	}
	id, err := idOf(ctx, tx, `SELECT id FROM kind WHERE app = ? AND type = ? AND code = ? AND effect = ? AND reason = ? AND method = ?`,
		`INSERT INTO kind (app, type, code, effect, reason, method) SELECT ?, ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM kind) < `+
			strconv.Itoa(maxKinds)+` RETURNING id`,
		k.app, k.typ, k.code, k.effect, k.reason, k.method)
	if errors.Is(err, sql.ErrNoRows) {
		return doubtful, nil
	}
	if err == nil {
		w.kinds[k] = id
	}
	return id, err
}

// personID is the id of a row's person, nil for nobody.
func (w *words) personID(ctx context.Context, tx *sql.Tx, r *search.Row) (any, error) {
	p := person{r.Subject, r.Email, r.Actor, r.ActorName}
	if p == (person{}) {
		return nil, nil
	}
	if id, ok := w.persons[p]; ok {
		return id, nil
	}
	id, err := idOf(ctx, tx, `SELECT id FROM person WHERE subject = ? AND email = ? AND actor = ? AND name = ?`,
		`INSERT INTO person (subject, email, actor, name) VALUES (?, ?, ?, ?) RETURNING id`, p.subject, p.email, p.actor, p.name)
	if err != nil {
		return nil, err
	}
	for _, name := range p.names() {
		if _, err := tx.ExecContext(ctx, `INSERT INTO called (name, person) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, id); err != nil {
			return nil, err
		}
	}
	if len(w.persons) >= maxRemembered {
		clear(w.persons)
	}
	w.persons[p] = id
	return id, nil
}

// names are what a person is looked up by.
func (p person) names() []string {
	var all []string
	for _, id := range []string{p.subject, p.actor} {
		if id != "" {
			all = append(all, "="+id)
		}
	}
	for _, name := range []string{p.email, p.name} {
		if name != "" {
			all = append(all, "~"+search.Fold(name))
		}
	}
	return all
}

// textID is the id of a policy's digest or a boot's id.
func (w *words) textID(ctx context.Context, tx *sql.Tx, text string) (int64, error) {
	if id, ok := w.texts[text]; ok {
		return id, nil
	}
	id, err := idOf(ctx, tx, `SELECT id FROM word WHERE text = ?`, `INSERT INTO word (text) VALUES (?) RETURNING id`, text)
	if err != nil {
		return 0, err
	}
	if len(w.texts) >= maxRemembered {
		clear(w.texts)
	}
	w.texts[text] = id
	return id, nil
}

func idOf(ctx context.Context, tx *sql.Tx, find, make string, values ...any) (id int64, err error) {
	err = tx.QueryRowContext(ctx, find, values...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, make, values...).Scan(&id)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("naming: %w", err)
	}
	return id, err
}

// requestKey is what stands for a request's id, nil for none. Of a UUID it is the first half, which begins with the time: rows
// of one time then stand together in the index. Ids that share a key are told apart when their records are read.
func requestKey(id string) any {
	if id == "" {
		return nil
	}
	if len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' {
		if n, err := strconv.ParseUint(id[:8]+id[9:13]+id[14:18], 16, 64); err == nil {
			return int64(n)
		}
	}
	return int64(hash(id))
}

// sessionKey is what stands for a session's id, in six bytes; nil for none.
func sessionKey(id string) any {
	if id == "" {
		return nil
	}
	return int64(hash(id) >> 17)
}

func hash(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}
