package guard

import "fmt"

// A Dialect is the SQL that a database understands.
type Dialect uint8

// The dialects. Databases that speak the protocol and the upsert of one of them
// go with it: CockroachDB and YugabyteDB with PostgreSQL, MariaDB with MySQL.
const (
	// PostgreSQL is the default: INSERT … ON CONFLICT … RETURNING, parameters
	// as $1.
	PostgreSQL Dialect = iota
	// MySQL has INSERT … ON DUPLICATE KEY and SELECT … FOR UPDATE on InnoDB
	// tables, parameters as ?.
	MySQL
	// SQLite is PostgreSQL's statement with parameters as ?, from SQLite 3.35.
	SQLite
)

// The definitions of the table. On MySQL the name is of bytes, because its
// texts would take "a" and "A" for one key.
const (
	createPostgreSQL = "CREATE TABLE IF NOT EXISTS %s (name text PRIMARY KEY, fence bigint NOT NULL)"
	createMySQL      = "CREATE TABLE IF NOT EXISTS %s (name varbinary(256) PRIMARY KEY, fence bigint NOT NULL) ENGINE=InnoDB"
	createSQLite     = "CREATE TABLE IF NOT EXISTS %s (name text NOT NULL PRIMARY KEY, fence integer NOT NULL)"
)

// The statements that raise the remembered fence to the caller's, if that is
// larger, and lock the row until the transaction ends. They say what stands
// there then: counting affected rows would not do, MySQL counts a row that was
// set to what it was as none.
const (
	raisePostgreSQL = "INSERT INTO %s AS seen (name, fence) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE " +
		"SET fence = CASE WHEN excluded.fence > seen.fence THEN excluded.fence ELSE seen.fence END RETURNING fence"
	raiseSQLite = "INSERT INTO %s AS seen (name, fence) VALUES (?, ?) ON CONFLICT (name) DO UPDATE " +
		"SET fence = CASE WHEN excluded.fence > seen.fence THEN excluded.fence ELSE seen.fence END RETURNING fence"

	// MySQL cannot return what it wrote. A plain SELECT would show the row as
	// it was when the transaction began; the locking one shows it as it is.
	raiseMySQL = "INSERT INTO %s (name, fence) VALUES (?, ?) ON DUPLICATE KEY UPDATE fence = GREATEST(fence, ?)"
	readMySQL  = "SELECT fence FROM %s WHERE name = ? FOR UPDATE"
)

// create returns the definition of the table.
func (d Dialect) create(table string) (string, error) {
	switch d {
	case PostgreSQL:
		return fmt.Sprintf(createPostgreSQL, table), nil
	case MySQL:
		return fmt.Sprintf(createMySQL, table), nil
	case SQLite:
		return fmt.Sprintf(createSQLite, table), nil
	}
	return "", d.unknown()
}

func (d Dialect) unknown() error {
	return fmt.Errorf("guard: unknown dialect %d: must be PostgreSQL, MySQL or SQLite", d)
}

// String returns the name of the database.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case MySQL:
		return "MySQL"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("Dialect(%d)", uint8(d))
}
