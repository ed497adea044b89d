<?php
// Logs in to WordPress as its administrator, and says what is there; succeeds when both work.
function fetch(string $path, ?array $form = null): array
{
    $options = ['header' => "Host: ha.example.com\r\nCookie: wordpress_test_cookie=WP%20Cookie%20check\r\n", 'timeout' => 20,
        'ignore_errors' => true, 'follow_location' => 0];
    if ($form) {
        $options['method'] = 'POST';
        $options['header'] .= "Content-Type: application/x-www-form-urlencoded\r\n";
        $options['content'] = http_build_query($form);
    }
    $text = (string) @file_get_contents('http://203.0.113.10' . $path, false, stream_context_create(['http' => $options]));
    return [$text, implode("\n", $http_response_header ?? [])];
}

[$page] = fetch('/');
[$posts] = fetch('/index.php?rest_route=/wp/v2/posts');
[, $answer] = fetch('/wp-login.php', ['log' => 'admin', 'pwd' => $argv[1], 'testcookie' => '1']);
$logged_in = str_contains($answer, 'wordpress_logged_in_');
$title = preg_match('#<title>(.*?)</title>#', $page, $found) ? html_entity_decode($found[1]) : 'no page';
$count = count(json_decode($posts, true) ?? []);
echo "WordPress: \"$title\", $count post(s), admin ", $logged_in ? 'can' : 'cannot', " log in\n";
exit($logged_in && $count > 0 ? 0 : 1);
