<?php
// Writes the row whose number is asked for and says so when it is committed, never before.
header('Content-Type: text/plain');
$id = filter_input(INPUT_GET, 'id', FILTER_VALIDATE_INT, ['options' => ['min_range' => 1]]);
if (!$id) {
    http_response_code(400);
    exit("which row?\n");
}
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
try {
    $database = new mysqli('localhost', 'www-data', '', 'app');
    $insert = $database->prepare('INSERT INTO `row` (id, at) VALUES (?, NOW(6))');
    $insert->bind_param('i', $id);
    // One statement with autocommit: it returns when the row is on the disk.
    $insert->execute();
    echo "ok $id\n";
} catch (mysqli_sql_exception $error) {
    http_response_code(503);
    echo $error->getMessage(), "\n";
}
